"""Stages of bilinear algorithms: sums of operands, products of the sums, and sums of the products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.symbols import int64


def stage(
    shape: Sequence[Any], element: Callable[..., Any], name: str, attributes: dict[str, Any] | None = None
) -> te.Tensor:
    """A tensor of an algorithm, under the name by which its schedule rule finds it."""
    return te.compute([int64(n) for n in shape], element, name=name, attrs=attributes)


def row_of(matrix: Sequence[Sequence[Fraction | int]], row: Any, term: Callable[[int], Any]) -> Any:
    """The product of a matrix's row with ``term(0), term(1), …``, float32.

    Written out for every row that it may be, without what is multiplied by zero: where the loop over rows
    is unrolled, one of them remains.
    """
    sums = [_sum(coefficients, term) for coefficients in matrix]
    chosen = sums.pop()
    for index, value in reversed(list(enumerate(sums))):
        chosen = tirx.if_then_else(tirx.EQ(row, int64(index)), value, chosen)
    return chosen


def _sum(coefficients: Sequence[Fraction | int], term: Callable[[int], Any]) -> Any:
    total: Any = None
    for index, coefficient in enumerate(coefficients):
        if coefficient == 0:
            continue
        value = term(index)
        if abs(coefficient) != 1:
            value = value * s.constant(abs(float(coefficient)), "float32")
        if total is None:
            total = value if coefficient > 0 else s.constant(0, "float32") - value
        else:
            total = total + value if coefficient > 0 else total - value
    return total
