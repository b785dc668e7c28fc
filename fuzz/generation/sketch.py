"""A graph while it grows.  Every value is known, so that what cannot run or is not finite is never added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch

from graphopt.fuzz.generation.choices import Choices, binned, number
from graphopt.fuzz.graphs import (
    Argument,
    Call,
    Graph,
    Leaf,
    Ref,
    draw_leaf,
    dtype_named,
    operator_named,
    resolved,
)
from graphopt.fuzz.graphs.graph import Values
from graphopt.fuzz.graphs.values import draw_weight

Shape = tuple[int, ...]
Role = Literal["input", "weight", "constant"]

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int8", "uint8")

_LARGEST_RANK = 6
_SHARED = 0.5
"""Probability that a weight is one that the graph has already, where one fits."""

_named = lru_cache(maxsize=None)(operator_named)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, by name."""

    name: str
    tensor: torch.Tensor

    @property
    def ref(self) -> Ref:
        return Ref(self.name)

    @property
    def shape(self) -> Shape:
        return tuple(self.tensor.shape)

    @property
    def rank(self) -> int:
        return self.tensor.ndim

    @property
    def dtype(self) -> str:
        return str(self.tensor.dtype).removeprefix("torch.")

    @property
    def kind(self) -> str:
        """``f`` | ``i`` | ``b``: floating point, integer or boolean."""
        return "f" if self.tensor.is_floating_point() else "b" if self.tensor.dtype == torch.bool else "i"


class Sketch:
    """A graph that grows by leaves and calls, and what its values are for one seed.

    Attributes:
        choices: where decisions come from.
        seed: of the leaves' values.
        leaves: by name.
        calls: in order.
        values: of leaves and calls: tensors, tuples of them, sizes.
        closed: names of values and weights that no further call may read.
        pinned: names of inputs that stay inputs.
        sizes: of dynamic axes, by name.
        banned: operators (``aten.relu``) that may not be added.
        dropped: how often what was not added, by reason.
    """

    def __init__(self, choices: Choices, seed: int = 0, elements: int = 4096) -> None:
        self.choices = choices
        self.seed = seed
        self.elements = elements
        self.leaves: dict[str, Leaf] = {}
        self.calls: list[Call] = []
        self.values: dict[str, Any] = {}
        self.closed: set[str] = set()
        self.pinned: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.banned: frozenset[str] = frozenset()
        self.dropped: Counter[str] = Counter()
        self._only_fresh = False
        self._numbers: Counter[str] = Counter()

    # -- what is there -------------------------------------------------------------------------

    def tensors(self) -> list[Value]:
        """Inputs and results that further calls may read, the newest first."""
        names = [c.name for c in reversed(self.calls)]
        names += [x.name for x in reversed(self.leaves.values()) if x.role == "input"]
        return [
            Value(n, self.values[n])
            for n in names
            if n not in self.closed and isinstance(self.values[n], torch.Tensor)
        ]

    def shape_of(self, leaf: Leaf) -> Shape:
        """The sizes of a leaf."""
        return tuple(self.sizes[n] if isinstance(n, str) else n for n in leaf.shape)

    def value(self, ref: Ref) -> Value:
        return Value(ref.name, self.values[ref.name])

    def depends_on_input(self, name: str) -> bool:
        """Whether a value would change with an input."""
        calls = {c.name: c for c in self.calls}
        waiting, seen = [name], set()
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            if current in self.leaves and self.leaves[current].role == "input":
                return True
            waiting.extend(calls[current].uses if current in calls else ())
        return False

    # -- what is drawn -------------------------------------------------------------------------

    def size(self, low: int, high: int) -> int:
        """A number of elements or an attribute, of uniform magnitude."""
        return binned(self.choices, low, high)

    def number(self, low: float, high: float) -> float:
        return number(self.choices, low, high)

    def axis(self, rank: int) -> int:
        """An axis, sometimes counted from the end."""
        axis = self.choices.integer(0, rank - 1)
        return axis - rank if self.choices.chance(0.4) else axis

    def operand(self, shape: Shape, dtype: str, values: Values = "normal", **ranges: int) -> Ref:
        """A value of a shape and a dtype: one of the graph's, or a new leaf."""
        ordinary = values == "normal" and not ranges
        if ordinary and not self._only_fresh and self.choices.chance(0.6):
            fitting = [v for v in self.tensors() if v.shape == shape and v.dtype == dtype]
            if fitting:
                return self.choices.one_of(fitting).ref
        if self.choices.chance(0.5):
            return self.input(shape, dtype, values, **ranges)
        return self.weight(shape, dtype, values, **ranges)

    def broadcast(self, shape: Shape, dtype: str, values: Values = "normal") -> Ref:
        """An operand that broadcasts to a shape, usually without growing it."""
        kept = shape
        if self.choices.chance(0.4):
            kept = shape[self.choices.integer(0, len(shape)) :]
            kept = tuple(1 if n != 0 and self.choices.chance(0.3) else n for n in kept)
        return self.operand(kept, dtype, values)

    def input(self, shape: Shape, dtype: str, values: Values = "normal", **ranges: int) -> Ref:
        """A new input."""
        return self.leaf(_leaf(self._name("x"), shape, dtype, "input", values, **ranges))

    def weight(self, shape: Shape, dtype: str, values: Values = "normal", **ranges: int) -> Ref:
        """A weight, mostly a parameter: with some probability one that the graph has already."""
        trainable = dtype in FLOATS and self.choices.chance(0.7)
        role: Role = "weight" if trainable else "constant"
        return self._weight(_leaf("", shape, dtype, role, values, **ranges))

    def constant(self, shape: Shape, dtype: str, values: Values = "normal", **ranges: int) -> Ref:
        """A weight without gradients, as the statistics of a normalisation are."""
        return self._weight(_leaf("", shape, dtype, "constant", values, **ranges))

    def _weight(self, wanted: Leaf) -> Ref:
        if self.choices.chance(_SHARED):
            for leaf in self.leaves.values():
                if leaf.name not in self.closed and replace(leaf, name="") == wanted:
                    return Ref(leaf.name)
        return self.leaf(replace(wanted, name=self._name("w")))

    def leaf_of_indices(self, shape: Shape, rows: int, role: str | None = None) -> Ref:
        """A new leaf of int64 that indexes ``rows`` rows."""
        if role == "input" or self.choices.chance(0.5):
            return self.input(shape, "int64", "integers", high=rows - 1)
        return self.constant(shape, "int64", "integers", high=rows - 1)

    # -- what is added -------------------------------------------------------------------------

    def leaf(self, leaf: Leaf) -> Ref:
        """Adds a leaf; the sizes of its dynamic axes are in :attr:`sizes`."""
        self.leaves[leaf.name] = leaf
        self.values[leaf.name] = self._drawn(leaf)
        return Ref(leaf.name)

    def call(self, operator: str, *arguments: Argument, **keywords: Argument) -> Ref | None:
        """Adds a call, and an access to one of its results if it has several.

        Returns:
            its result, or None if the call is not allowed, torch refuses it, or it gives something too
            large or not finite; the graph is then as it was.
        """
        if operator.rpartition(".")[0] in self.banned:
            return None
        name = self._name(operator.split(".")[1].strip("_"))
        call = Call(name, operator, arguments, tuple(sorted(keywords.items())))
        try:
            result = self._run(call)
        except (RuntimeError, IndexError, TypeError, ValueError):
            self.dropped[f"{operator}: torch refuses it"] += 1
            return None
        large = any(self._too_large(self.values[n]) for n in call.uses if n in self.leaves)
        if problem := "too large" if large else self._problem(result):
            self.dropped[f"{operator}: {problem}"] += 1
            return None
        self.calls.append(call)
        self.values[name] = result
        if not isinstance(result, (tuple, list)):
            return Ref(name)
        found = None
        for i in range(len(result)):
            last = found is None and i == len(result) - 1
            if last or self.choices.chance(0.5):
                found = self.call("operator.getitem", Ref(name), i) or found
        return found

    def add(self, call: Call) -> bool:
        """Adds a call as it is, whatever it gives; False if torch refuses it."""
        try:
            self.values[call.name] = self._run(call)
        except (RuntimeError, IndexError, TypeError, ValueError):
            return False
        self.calls.append(call)
        return True

    def attempt(self, grow: Callable[[], Ref | None]) -> Ref | None:
        """Grows the graph, or leaves it as it was where that returns None."""
        leaves, calls = dict(self.leaves), len(self.calls)
        found = grow()
        if found is None:
            self._restore(leaves, self.calls[:calls])
        return found

    def attempt_before(self, name: str, grow: Callable[[], Ref | None]) -> bool:
        """Replaces an input by the result of what ``grow`` adds; that may read new leaves only.

        Returns:
            False if ``grow`` gave up or gave another shape or dtype, or what follows is no longer
            finite; the graph is then as it was.
        """
        leaves, calls = dict(self.leaves), list(self.calls)
        target = self.values[name]
        self._only_fresh = True
        found = grow()
        self._only_fresh = False
        if found is not None and _alike(self.values[found.name], target):
            added = self.calls[len(calls) :]

            def moved(argument: Argument) -> Argument:
                return found if argument == Ref(name) else argument

            self.calls = added + [c.mapped(moved) for c in calls]
            del self.leaves[name]
            values = dict(self.values)
            if self._compute() is None:
                return True
            self.values = values
            self.dropped["what follows an operator put before an input is not finite"] += 1
        self._restore(leaves, calls)
        return False

    def evaluate(self, seed: int | None = None) -> str | None:
        """Computes everything anew, for another seed if one is given.

        Returns:
            the name of the first value that is not as it has to be, or None.
        """
        self.seed = self.seed if seed is None else seed
        self.values = {leaf.name: self._drawn(leaf) for leaf in self.leaves.values()}
        return self._compute()

    def _compute(self) -> str | None:
        for call in self.calls:
            try:
                self.values[call.name] = self._run(call)
            except (RuntimeError, IndexError, TypeError, ValueError):
                return call.name
            if self._problem(self.values[call.name]):
                return call.name
        return None

    def without(self, names: set[str]) -> None:
        """Leaves out some calls, and all that depend on them."""
        gone = set(names)
        kept = []
        for call in self.calls:
            if call.name in gone or gone & set(call.uses):
                gone.add(call.name)
                self.values.pop(call.name, None)
            else:
                kept.append(call)
        self.calls = kept

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        """What has grown; weights that nothing reads are left out."""
        read = {name for call in self.calls for name in call.uses} | set(outputs)
        leaves = [x for x in self.leaves.values() if x.role == "input" or x.name in read]
        leaves.sort(key=lambda leaf: leaf.role != "input")
        return Graph(tuple(leaves), tuple(self.calls), outputs, tuple(sorted(self.sizes.items())))

    def sinks(self) -> list[str]:
        """Tensors that no call reads, in order."""
        read = {name for call in self.calls for name in call.uses}
        return [c.name for c in self.calls if c.name not in read and _is_tensor(self.values[c.name])]

    def fresh_name(self, stem: str) -> str:
        return self._name(stem)

    # -- inside --------------------------------------------------------------------------------

    def _name(self, stem: str) -> str:
        # No underscore before the number: fx reads one as a counter of its own.
        self._numbers[""] += 1
        return f"{stem.rstrip('0123456789')}{self._numbers['']}"

    def _drawn(self, leaf: Leaf) -> torch.Tensor:
        shape = self.shape_of(leaf)
        draw = draw_leaf if leaf.role == "input" else draw_weight
        return draw(leaf, shape, self.seed)

    def _run(self, call: Call) -> Any:
        arguments = [resolved(a, self.values) for a in call.arguments]
        with torch.no_grad():
            return _named(call.operator)(
                *arguments, **{k: resolved(a, self.values) for k, a in call.keywords}
            )

    def _problem(self, result: Any) -> str | None:
        for tensor in _tensors(result):
            if self._too_large(tensor):
                return "too large"
            if tensor.is_complex():
                return "complex"
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return "not finite"
        return None

    def _too_large(self, tensor: torch.Tensor) -> bool:
        return tensor.numel() > self.elements or tensor.ndim > _LARGEST_RANK

    def _restore(self, leaves: dict[str, Leaf], calls: list[Call]) -> None:
        self.leaves, self.calls = leaves, calls
        known = {*leaves, *(c.name for c in calls)}
        self.values = {name: v for name, v in self.values.items() if name in known}


def kind_of(dtype: str) -> str:
    """``f`` | ``i`` | ``b`` for the name of a dtype."""
    return "f" if dtype_named(dtype).is_floating_point else "b" if dtype == "bool" else "i"


def _leaf(
    name: str, shape: Shape, dtype: str, role: Role, values: Values, low: int = 0, high: int = 4
) -> Leaf:
    return Leaf(name, shape, dtype, role, values, low, high)


def _alike(a: Any, b: torch.Tensor) -> bool:
    return isinstance(a, torch.Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
