"""Commutative reducers with torch's treatment of NaN and of ties."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.dtypes import is_float
from graphopt.codegen.relax.scalars import Scalar

SUM = te.sum

MAX = te.comm_reducer(s.maximum, s.lowest, name="max")
"""Maximum; NaN wins."""

MIN = te.comm_reducer(s.minimum, s.highest, name="min")
"""Minimum; NaN wins."""

PRODUCT = te.comm_reducer(lambda a, b: a * b, lambda dtype: s.constant(1, str(dtype)), name="prod")

ANY = te.comm_reducer(lambda a, b: tirx.bitwise_or(a, b), lambda dtype: s.constant(0, str(dtype)), name="any")
"""Or over int8 truth values."""

ALL = te.comm_reducer(
    lambda a, b: tirx.bitwise_and(a, b), lambda dtype: s.constant(1, str(dtype)), name="all"
)
"""And over int8 truth values."""

_FAR = 2**62


def _first_of_equals(better: Any) -> Any:
    """(position, value) pairs: the better value, the first position of it; NaN is best of all."""

    def combine(a: tuple[Scalar, Scalar], b: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        (i, x), (j, y) = a, b
        earlier = j < i
        wins = tirx.Or(better(y, x), tirx.And(tirx.EQ(x, y), earlier))
        if is_float(x.ty.dtype):
            wins = tirx.Or(
                tirx.And(s.is_nan(y), tirx.Or(tirx.Not(s.is_nan(x)), earlier)),
                tirx.And(tirx.Not(s.is_nan(x)), wins),
            )
        return tirx.Select(wins, j, i), tirx.Select(wins, y, x)

    return combine


ARGMAX = te.comm_reducer(
    _first_of_equals(tirx.GT), lambda i, v: (tirx.IntImm(str(i), _FAR), s.lowest(str(v))), name="argmax"
)
ARGMIN = te.comm_reducer(
    _first_of_equals(tirx.LT), lambda i, v: (tirx.IntImm(str(i), _FAR), s.highest(str(v))), name="argmin"
)
