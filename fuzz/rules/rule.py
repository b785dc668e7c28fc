"""What is known about one partial operator: valid arguments, and the shapes of its results."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphopt.fuzz.rules.arguments import SymbolSlot, Template, TensorSlot, filled, slots
from graphopt.fuzz.rules.expressions import Expression, Predicate, evaluator

if TYPE_CHECKING:
    from graphopt.fuzz.rules.solving import ConstraintSystem

LARGEST = 4096
"""Of a size or attribute that is solved for."""
STARTS = 4
"""Local searches before Z3 is asked."""
DRAWN_SIZES = (1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16)
DRAWN_ATTRIBUTES = (-1, 0, 0, 1, 1, 2, 2, 3, 4, 5, 7, 8)


@dataclass(frozen=True)
class TensorInput:
    """An input tensor.

    Attributes:
        name: of the argument in the schema; ``tensors_1`` is the second of a list.
        kind: its class of dtypes: ``float``, ``int`` or ``bool``.
        sizes: the symbol of each axis.
    """

    name: str
    kind: str
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class ConcreteRecord:
    """A call that works.

    Attributes:
        values: of the rule's symbols, in order.
        shapes: of the results.
    """

    values: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class HoldOut:
    """How a rule did on calls that it was not learnt from.

    Attributes:
        valid: calls that the operator accepts.
        invalid: calls that it refuses.
        precision: of the calls that satisfy the constraints, the part that is valid.
        recall: of the valid calls, the part that satisfies the constraints.
        exact: of the valid calls that satisfy the constraints, the part whose shapes are right.
    """

    valid: int
    invalid: int
    precision: float
    recall: float
    exact: float

    def passes(self, threshold: float) -> bool:
        """Whether all three figures reach a threshold."""
        return min(self.precision, self.recall, self.exact) >= threshold


@dataclass(frozen=True)
class OperatorRule:
    """A rule.

    Attributes:
        overload: such as ``aten.conv2d.default``.
        key: what is fixed, readable; unique in a file.
        template: arguments in the schema's order.
        inputs: the tensors among them.
        attributes: names of the symbols that are integer arguments.
        floor: the least value of an attribute that the rule was learnt for.
        constraints: what valid arguments satisfy; sizes are positive besides.
        results: the rank of each result; None: it is no tensor.
        outputs: for each result that is a tensor an expression for each size; empty where no rule was found.
        dtypes: dtypes of the inputs that kernels exist for, with those of the results.
        index_bounds: for inputs of indices, by position: the expression that indices stay below.
        records: calls that work.
        holdout: figures; None: there was no rule to judge.
        usable: whether constraints and shapes can be relied on; if not, only the records can.
        reason: why it is not usable; empty if it is.
        sources: where it was seen.
    """

    overload: str
    key: str
    template: tuple[Template, ...]
    inputs: tuple[TensorInput, ...]
    attributes: tuple[str, ...]
    floor: int
    constraints: tuple[Predicate, ...]
    results: tuple[int | None, ...]
    outputs: tuple[tuple[Expression, ...], ...]
    dtypes: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    index_bounds: Mapping[int, Expression]
    records: tuple[ConcreteRecord, ...]
    holdout: HoldOut | None
    usable: bool
    reason: str
    sources: tuple[str, ...]

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Sizes of the inputs in order, then attributes."""
        return tuple(s for tensor in self.inputs for s in tensor.sizes) + self.attributes

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """The least and greatest value of each symbol, inclusive."""
        return {s: (self.floor if s in self.attributes else 1, LARGEST) for s in self.symbols}

    @cached_property
    def system(self) -> ConstraintSystem:
        """The constraints, ready to be solved."""
        from graphopt.fuzz.rules.solving import ConstraintSystem

        return ConstraintSystem(self.ranges, self.constraints)

    def solve(self, bindings: Mapping[str, int], rng: random.Random) -> dict[str, int] | None:
        """Values of all symbols that satisfy the constraints, drawn at random.

        Args:
            bindings: values that are given, such as the sizes of tensors that exist.
            rng: the only source of randomness.

        Returns:
            None where there are no such values, or Z3's budget does not suffice to find them.

        Raises:
            ValueError: a binding is no symbol of the rule.
        """
        unknown = [name for name in bindings if name not in self.ranges]
        if unknown:
            raise ValueError(f"{self.key} has no symbol {unknown[0]!r}; it has {', '.join(self.symbols)}")
        bound = frozenset(bindings)
        start: dict[str, int] = {}
        for _ in range(STARTS):
            start = {**self._start(rng), **bindings}
            found = self.system.solve(rng, start, bound)
            if found is not None:
                return found
        return self.system.prove(rng, bindings, start)

    def _start(self, rng: random.Random) -> dict[str, int]:
        """A record, part of which is drawn anew."""
        values = dict(zip(self.symbols, rng.choice(self.records).values, strict=True))
        share = rng.choice((0.3, 0.6, 0.9))
        for name in values:
            if rng.random() < share:
                values[name] = rng.choice(DRAWN_ATTRIBUTES if name in self.attributes else DRAWN_SIZES)
        return values

    def input_shapes(self, assignment: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the inputs for values of the symbols."""
        return tuple(tuple(assignment[s] for s in tensor.sizes) for tensor in self.inputs)

    def output_shapes(self, assignment: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the results for values of the symbols."""
        return tuple(tuple(size(assignment) for size in sizes) for sizes in self._sizes)

    @cached_property
    def _sizes(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(map(evaluator, sizes)) for sizes in self.outputs)

    def holds(self, assignment: Mapping[str, int]) -> bool:
        """Whether values of all symbols satisfy the constraints."""
        return self.system.holds(assignment)

    def arguments(
        self, assignment: Mapping[str, int], tensors: Sequence[Any] | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of the overload.

        Args:
            assignment: values of the symbols.
            tensors: one an input; default: each tensor's place holds its :class:`TensorSlot`.
        """
        from graphopt.fuzz.traces.record import overload_of

        given: Any = TensorSlot if tensors is None else tensors
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        schema = overload_of(self.overload)._schema.arguments
        for argument, template in zip(schema, self.template, strict=True):
            value = filled(template, assignment, given)
            if argument.kwarg_only:
                kwargs[argument.name] = value
            else:
                args.append(value)
        return args, kwargs

    def problems(self) -> list[str]:
        """What contradicts itself in the rule; nothing in one that inference wrote."""
        known = set(self.symbols)
        found = []
        if len(known) != len(self.symbols):
            found.append("two symbols have one name")
        used = {slot.name for slot in slots(self.template) if isinstance(slot, SymbolSlot)}
        if used - set(self.attributes):
            found.append(f"unknown attributes {sorted(used - set(self.attributes))}")
        indices = {slot.index for slot in slots(self.template) if isinstance(slot, TensorSlot)}
        if indices != set(range(len(self.inputs))):
            found.append("tensors of the template are not the inputs")
        if any(len(record.values) != len(self.symbols) for record in self.records):
            found.append("a record has another number of values")
        ranks = tuple(rank for rank in self.results if rank is not None)
        if self.outputs and tuple(map(len, self.outputs)) != ranks:
            found.append("expressions do not fit the ranks of the results")
        if self.usable and (not self.outputs and ranks or not self.records):
            found.append("it is usable and has no expressions or records")
        return found
