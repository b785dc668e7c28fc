"""Where the extreme of an axis is, and what it is: ``argmax``, ``max`` along an axis, and the like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, dtype_of, normalize_axis, rank_of, shape_of
from graphopt.codegen.relax.converters.reduction import count, spread
from graphopt.codegen.relax.dtypes import BUT_BFLOAT16, arithmetic_dtype, is_float
from graphopt.codegen.relax.reducers import ARGMAX, ARGMIN, MAX, MIN
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.rows import reduce_rows
from graphopt.codegen.relax.symbols import known

aten = torch.ops.aten


@dataclass(frozen=True)
class _Extreme:
    """One of the two, as a reduction of values, and of values with their positions."""

    name: str
    of_values: Any
    of_pairs: Any


_LARGEST, _SMALLEST = _Extreme("max", MAX, ARGMAX), _Extreme("min", MIN, ARGMIN)


def _along(context: Context, x: Expr, dim: int | None, keepdim: bool, extreme: _Extreme) -> list[Expr]:
    """Values and int64 positions along ``dim`` (of the flat tensor if None); the first of equals."""
    if dim is None:
        sizes = shape_of(x)
        x, dim = context.reshape(x, [count(sizes, range(len(sizes)))]), 0
        keepdim = False
    if rank_of(x) == 0:
        x = context.reshape(x, [1])
        keepdim = False
    sizes = shape_of(x)
    axis = normalize_axis(dim, len(sizes))
    one = tirx.IntImm("int64", 1)
    shape = [one if i == axis else size for i, size in enumerate(sizes) if keepdim or i != axis]
    if axis == len(sizes) - 1 and context.lanes is not None:
        length = known(sizes[axis])
        if length is None or length >= 2 * context.lanes:
            found = _along_rows(context, x, extreme, context.lanes)
            return [context.reshape(part, shape) for part in found]
    return _pairs(context, x, axis, keepdim, shape, extreme)


def _along_rows(context: Context, x: Expr, extreme: _Extreme, lanes: int) -> list[Expr]:
    """Two passes over rows in memory, each in vectors: what the extreme is, then where it stands first.

    A pair of value and position takes its turn after the pair before it, and is compared in both.
    """
    sizes, dtype = shape_of(x), dtype_of(x)
    length = known(sizes[-1])
    counted = "int32" if length is not None and length < 2**31 else "int64"
    compute, rows = arithmetic_dtype(dtype), [*sizes[:-1], tirx.IntImm("int64", 1)]

    def best(data: te.Tensor) -> te.Tensor:
        found = reduce_rows(
            extreme.name,
            rows,
            sizes[-1],
            lambda i, k: s.cast(data(*i[:-1], k), compute),
            extreme.of_values,
            lanes,
        )
        return te.compute(rows, lambda *i: s.cast(found(*i), dtype), name="value")

    def first(data: te.Tensor, values: te.Tensor) -> te.Tensor:
        def place(index: Any, k: Any) -> Any:
            value, wanted = data(*index[:-1], k), values(*index)
            found = tirx.EQ(value, wanted)
            if is_float(dtype):
                found = tirx.Or(found, tirx.And(s.is_nan(value), s.is_nan(wanted)))
            return tirx.Select(found, tirx.Cast(counted, k), tirx.max_value(counted))

        found = reduce_rows("first", rows, sizes[-1], place, MIN, lanes)
        return te.compute(rows, lambda *i: tirx.Cast("int64", found(*i)), name="position")

    values = context.kernel(extreme.name, [x], best)
    return [values, context.kernel(f"arg{extreme.name}", [x, values], first)]


def _pairs(
    context: Context, x: Expr, axis: int, keepdim: bool, shape: list[Any], extreme: _Extreme
) -> list[Expr]:
    """One pass, over pairs of value and position."""
    sizes, dtype = shape_of(x), dtype_of(x)
    compute = arithmetic_dtype(dtype)

    def define(data: te.Tensor) -> list[te.Tensor]:
        tap = te.reduce_axis((0, sizes[axis]), "k")

        def element(*index: Any) -> Any:
            kept = list(index) if keepdim else spread(index, [axis], len(sizes))
            kept[axis] = tap
            return extreme.of_pairs((tirx.Cast("int64", tap.var), s.cast(data(*kept), compute)), axis=tap)

        positions, values = te.compute(shape, element, name=f"arg{extreme.name}")
        return [te.compute(shape, lambda *i: s.cast(values(*i), dtype), name="value"), positions]

    return list(context.kernel(f"arg{extreme.name}", [x], define))


@converter(aten.max.dim, dtypes=BUT_BFLOAT16)
def max_dim(context: Context, x: Expr, dim: int, keepdim: bool) -> list[Expr]:
    return _along(context, x, dim, keepdim, _LARGEST)


@converter(aten.min.dim, dtypes=BUT_BFLOAT16)
def min_dim(context: Context, x: Expr, dim: int, keepdim: bool) -> list[Expr]:
    return _along(context, x, dim, keepdim, _SMALLEST)


@converter(aten.argmax.default, dtypes=BUT_BFLOAT16)
def argmax(context: Context, x: Expr, dim: int | None, keepdim: bool) -> Expr:
    return context.reshape(_along(context, x, dim, keepdim, _LARGEST)[1], context.shape)


@converter(aten.argmin.default, dtypes=BUT_BFLOAT16)
def argmin(context: Context, x: Expr, dim: int | None, keepdim: bool) -> Expr:
    return context.reshape(_along(context, x, dim, keepdim, _SMALLEST)[1], context.shape)
