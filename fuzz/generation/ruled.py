"""Operators whose arguments come from the rules file: solved for what stands in the graph, or as recorded.

A rule is about one partial operator (:class:`graphopt.fuzz.rules.OperatorRule`).  An *inferred* operator
binds the sizes of a value of the graph and lets the rule's constraints decide the rest; a *recorded*
one repeats a call that was seen, with a value of exactly the recorded shape.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch

from graphopt.fuzz.generation.choices import binned
from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.graphs import Argument, Leaf, Ref, TorchConstant, operator_named
from graphopt.fuzz.graphs.graph import Values
from graphopt.fuzz.rules import DEFAULT_PATH, OperatorRule, RuleFile, load_rules
from graphopt.fuzz.rules.expressions import Comparison, Constant, evaluator
from graphopt.fuzz.rules.solving import ConstraintSystem

_KINDS = {"float": "f", "int": "i", "bool": "b"}
_STARTS = 4
_LARGEST_ATTRIBUTE = 64
_PROVED = 0.2
"""Probability that Z3 is asked where local search found nothing; mostly there is nothing, at great cost."""


_UNWANTED = frozenset(
    {"aten.empty", "aten.empty_like", "aten.new_empty", "aten.empty_strided", "aten.new_empty_strided",
     "aten.resize", "aten.view_as_complex", "aten.set", "aten.record_stream", "aten.is_pinned",
     "aten.linalg_pinv"}
)  # fmt: skip
"""Operators whose results are undefined, that no program may contain, or that take no parameter for some
tensor."""


_IN_PLACE = ("training", "use_input_stats", "train")
"""Arguments with which normalisations write to their statistics, and dropout draws random numbers."""


@dataclass(frozen=True)
class Entry:
    """A place of a rule where something fits.

    Attributes:
        overload: the operator.
        rule: which of its rules.
        record: which of the rule's records; -1: none, it is solved.
        slot: which input, or which result.
    """

    overload: str
    rule: int
    record: int
    slot: int


class RuleTable:
    """The rules file, by what fits where."""

    def __init__(self, file: RuleFile) -> None:
        self._file = file
        self.overloads = tuple(name for name in file.overloads() if _wanted(name))

    def rule(self, entry: Entry) -> OperatorRule:
        return self._file.rules(entry.overload)[entry.rule]

    def rules(self, overload: str) -> tuple[OperatorRule, ...]:
        return self._file.rules(overload)

    @cached_property
    def solvable(self) -> dict[tuple[str, int], dict[str, list[Entry]]]:
        """Inputs of usable rules: ``(kind, rank)`` to overload to entries."""
        found: dict[tuple[str, int], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for overload, i, raw in self._usable():
            for slot, (_, kind, rank) in enumerate(raw["inputs"]):
                if str(slot) not in raw.get("index_bounds", {}):
                    found[_KINDS[kind], rank][overload].append(Entry(overload, i, -1, slot))
        return found

    @cached_property
    def giving(self) -> dict[int, dict[str, list[Entry]]]:
        """Usable rules with one result, by its rank."""
        found: dict[int, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for overload, i, raw in self._usable():
            if len(raw["outputs"]) == 1 and raw["inputs"]:
                found[len(raw["outputs"][0])][overload].append(Entry(overload, i, -1, 0))
        return found

    @cached_property
    def recorded(self) -> dict[tuple[str, Shape], dict[str, list[Entry]]]:
        """Inputs of records: ``(kind, shape)`` to overload to entries."""
        found: dict[tuple[str, Shape], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for overload in self.overloads:
            for i, raw in enumerate(self._file.raw(overload)):
                for j, (values, _) in enumerate(raw["records"]):
                    first = 0
                    for slot, (_, kind, rank) in enumerate(raw["inputs"]):
                        shape = tuple(values[first : first + rank])
                        first += rank
                        if str(slot) not in raw.get("index_bounds", {}):
                            found[_KINDS[kind], shape][overload].append(Entry(overload, i, j, slot))
        return found

    @cached_property
    def recorded_giving(self) -> dict[Shape, dict[str, list[Entry]]]:
        """Records with one result, by its shape."""
        found: dict[Shape, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for overload in self.overloads:
            for i, raw in enumerate(self._file.raw(overload)):
                for j, (_, shapes) in enumerate(raw["records"]):
                    if len(shapes) == 1 and raw["inputs"]:
                        found[tuple(shapes[0])][overload].append(Entry(overload, i, j, 0))
        return found

    def _usable(self) -> Any:
        for overload in self.overloads:
            for i, raw in enumerate(self._file.raw(overload)):
                if raw["usable"]:
                    yield overload, i, raw


@lru_cache(maxsize=1)
def table() -> RuleTable | None:
    """The rules that come with graphopt; None where no file of rules was made."""
    return RuleTable(load_rules()) if DEFAULT_PATH.exists() else None


def add_after(sketch: Sketch, rules: RuleTable, *, solved: bool) -> Ref | None:
    """Adds an operator that reads a value of the graph: one solved for it, or a record with its shape."""
    values = sketch.tensors()
    if not values:
        return None
    value = values[0] if sketch.choices.chance(0.5) else sketch.choices.one_of(values)
    return sketch.attempt(lambda: _reading(sketch, rules, value, solved))


def put_before(sketch: Sketch, rules: RuleTable, leaf: Leaf, *, solved: bool) -> bool:
    """Puts an operator before an input: one solved for its shape, or a record with it."""
    shape = sketch.shape_of(leaf)
    return sketch.attempt_before(leaf.name, lambda: _giving(sketch, rules, shape, leaf.dtype, solved))


def start_recorded(sketch: Sketch, rules: RuleTable) -> Ref | None:
    """A recorded call on new leaves, to begin a graph with."""
    overload = sketch.choices.one_of(rules.overloads)
    rule = sketch.choices.one_of(rules.rules(overload))
    if not rule.inputs or not rule.dtypes or not rule.records:
        return None
    assignment = dict(zip(rule.symbols, sketch.choices.one_of(rule.records).values, strict=True))
    return _call(sketch, rule, assignment, sketch.choices.one_of(rule.dtypes)[0], {}, first_is_input=True)


def _reading(sketch: Sketch, rules: RuleTable, value: Value, solved: bool) -> Ref | None:
    places = rules.solvable.get((value.kind, value.rank)) if solved else None
    if not solved:
        places = rules.recorded.get((value.kind, value.shape))
    entry = _drawn(sketch, places)
    if entry is None:
        return None
    rule = rules.rule(entry)
    dtypes = _dtypes(sketch, rule, entry.slot, value.dtype)
    if dtypes is None:
        return None
    if solved:
        sizes = dict(zip(rule.inputs[entry.slot].sizes, value.shape, strict=True))
        assignment = _solved(sketch, rule, sizes, rule.system)
    else:
        assignment = dict(zip(rule.symbols, rule.records[entry.record].values, strict=True))
    if assignment is None:
        return None
    return _call(sketch, rule, assignment, dtypes, {entry.slot: value.ref})


def _giving(sketch: Sketch, rules: RuleTable, shape: Shape, dtype: str, solved: bool) -> Ref | None:
    places = rules.giving.get(len(shape)) if solved else rules.recorded_giving.get(shape)
    entry = _drawn(sketch, places)
    if entry is None:
        return None
    rule = rules.rule(entry)
    dtypes = [inputs for inputs, outputs in rule.dtypes if outputs and outputs[0] == dtype]
    if not dtypes:
        return None
    if solved:
        wanted = [Comparison("==", size, Constant(n)) for size, n in zip(rule.outputs[0], shape, strict=True)]
        system = ConstraintSystem(rule.ranges, (*rule.constraints, *wanted))
        assignment = _solved(sketch, rule, {}, system)
    else:
        assignment = dict(zip(rule.symbols, rule.records[entry.record].values, strict=True))
    if assignment is None:
        return None
    return _call(sketch, rule, assignment, sketch.choices.one_of(dtypes), {}, first_is_input=True)


def _drawn(sketch: Sketch, places: dict[str, list[Entry]] | None) -> Entry | None:
    """An overload first, so that those with many partial operators are not drawn more often."""
    names = sorted(name for name in places or () if name.rpartition(".")[0] not in sketch.banned)
    if not names or places is None:
        return None
    return sketch.choices.one_of(places[sketch.choices.one_of(names)])


def _dtypes(sketch: Sketch, rule: OperatorRule, slot: int, dtype: str) -> tuple[str, ...] | None:
    fitting = [inputs for inputs, _ in rule.dtypes if inputs[slot] == dtype]
    return sketch.choices.one_of(fitting) if fitting else None


def _solved(
    sketch: Sketch, rule: OperatorRule, sizes: dict[str, int], system: ConstraintSystem
) -> dict[str, int] | None:
    """Sizes and attributes that the constraints allow; some attributes keep a drawn magnitude.

    Nothing that an earlier search left behind may decide: Z3 gets a solver of its own.
    """
    rng = random.Random(sketch.choices.integer(0, 2**32 - 1))
    wished = {
        name: binned(sketch.choices, max(rule.floor, 1), _LARGEST_ATTRIBUTE)
        for name in rule.attributes
        if name not in sizes and sketch.choices.chance(0.3)
    }
    start: dict[str, int] = {}
    for attempt in range(_STARTS):
        bound = {**sizes, **(wished if attempt < _STARTS // 2 else {})}
        start = {**rule._start(rng), **bound}
        found = system.solve(rng, start, frozenset(bound))
        if found is not None:
            return found
    if not sketch.choices.chance(_PROVED):
        return None
    return ConstraintSystem(system.ranges, system.predicates).prove(rng, sizes, start)


def _call(
    sketch: Sketch,
    rule: OperatorRule,
    assignment: dict[str, int],
    dtypes: Sequence[str],
    given: dict[int, Ref],
    *,
    first_is_input: bool = False,
) -> Ref | None:
    shapes = rule.input_shapes(assignment)
    if any(math.prod(shape) > sketch.elements for shape in shapes):
        sketch.dropped[f"{rule.overload}: too large"] += 1
        return None
    operands = []
    for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        if i in given:
            operands.append(given[i])
        elif i in rule.index_bounds:
            rows = evaluator(rule.index_bounds[i])(assignment)
            operands.append(sketch.input(shape, dtype, "integers", high=max(0, rows - 1)))
        elif first_is_input and i == 0:
            operands.append(sketch.input(shape, dtype))
        elif rule.inputs[i].name.startswith("running_"):  # statistics have no gradients
            operands.append(sketch.constant(shape, dtype, "positive"))
        else:
            values: Values = "positive" if sketch.choices.chance(0.15) else "normal"
            operands.append(sketch.operand(shape, dtype, values))
    positional, keywords = rule.arguments(assignment, operands)
    schema = operator_named(rule.overload)._schema.arguments
    if any(a.name in _IN_PLACE and value is True for a, value in zip(schema, positional, strict=False)):
        return None
    while positional and _is_default(schema[len(positional) - 1], positional[-1]):
        positional.pop()
    named = {a.name: a for a in schema}
    extra = {k: _argument(v) for k, v in keywords.items() if not _is_default(named[k], v)}
    return sketch.call(rule.overload, *map(_argument, positional), **extra)


def _is_default(argument: Any, value: Any) -> bool:
    if isinstance(value, Ref) or not argument.has_default_value():
        return False
    return type(value) is type(argument.default_value) and value == argument.default_value


def _argument(value: Any) -> Argument:
    if isinstance(value, (list, tuple)):
        return tuple(_argument(item) for item in value)
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format, torch.device)):
        return TorchConstant(str(value).removeprefix("torch."))
    return value


def _wanted(overload: str) -> bool:
    """Whether an operator may stand in a program: it computes the same at every call, and writes nowhere."""
    try:
        operator = operator_named(overload)
    except ValueError:
        return False
    tags = set(operator.tags)
    unsteady = {
        torch.Tag.nondeterministic_seeded,
        torch.Tag.data_dependent_output,
        torch.Tag.dynamic_output_shape,
    }
    if tags & unsteady or operator._schema.is_mutable or overload.rpartition(".")[0] in _UNWANTED:
        return False
    return all("Tensor" in str(result.type) for result in operator._schema.returns)
