"""What the generator knows of one operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphopt.fuzz.generation.sketch import Shape, Sketch, Value, kind_of
from graphopt.fuzz.graphs import Argument, Ref

Grow = Callable[[Sketch, Value], Ref | None]
Back = Callable[[Sketch, Shape, str], Ref | None]
Attributes = Callable[[Sketch, Value], tuple[Argument, ...]]

RANKS = (0, 6)


@dataclass(frozen=True)
class Spec:
    """How an operator is added to a graph.

    Attributes:
        operator: the overload that it is about.
        grow: adds a call that reads a value, with operands that fit it; None where it cannot.
        kinds: of the value's dtype, any of ``f`` (floating point), ``i`` (integer), ``b`` (boolean).
        ranks: least and greatest rank of the value.
        back: adds a call whose result has a given shape and dtype, on new leaves; None where the operator
            has no such form.
        fits: what else has to hold of the value.
    """

    operator: str
    grow: Grow
    kinds: str = "f"
    ranks: tuple[int, int] = RANKS
    back: Back | None = None
    fits: Callable[[Value], bool] | None = None

    @property
    def packet(self) -> str:
        """The operator without its overload."""
        return self.operator.rpartition(".")[0]

    def accepts(self, value: Value) -> bool:
        """Whether the operator can read a value."""
        low, high = self.ranks
        if not (low <= value.rank <= high and value.kind in self.kinds):
            return False
        return self.fits is None or self.fits(value)


def no_attributes(sketch: Sketch, x: Value) -> tuple[Argument, ...]:
    return ()


def keeping(
    operator: str,
    attributes: Attributes = no_attributes,
    kinds: str = "f",
    ranks: tuple[int, int] = RANKS,
    fits: Callable[[Value], bool] | None = None,
    **keywords: Argument,
) -> Spec:
    """An operator on one tensor whose result has its shape and dtype."""

    def grow(sketch: Sketch, x: Value) -> Ref | None:
        return sketch.call(operator, x.ref, *attributes(sketch, x), **keywords)

    return Spec(operator, grow, kinds, ranks, back_of(grow, kinds, ranks), fits)


def back_of(grow: Grow, kinds: str = "fib", ranks: tuple[int, int] = RANKS) -> Back:
    """The form before an input of an operator that keeps shape and dtype."""

    def back(sketch: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if kind_of(dtype) not in kinds or not ranks[0] <= len(shape) <= ranks[1]:
            return None
        return grow(sketch, sketch.value(sketch.input(shape, dtype)))

    return back


def not_empty(x: Value) -> bool:
    return x.tensor.numel() > 0
