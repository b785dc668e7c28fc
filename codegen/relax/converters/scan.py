"""Running sums, sorting and selection: kernels with one sequential row a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import (
    Context,
    Expr,
    Unsupported,
    dtype_of,
    normalize_axis,
    rank_of,
    shape_of,
)
from graphopt.codegen.relax.converters.indexing import block
from graphopt.codegen.relax.converters.shape import pieces
from graphopt.codegen.relax.dtypes import ALL, NUMBERS, arithmetic_dtype, is_float
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import int64, known

aten = torch.ops.aten


def _rows(context: Context, x: Expr, dim: int) -> tuple[Expr, int]:
    """``x`` with at least one axis, and the axis."""
    if rank_of(x) == 0:
        x = context.reshape(x, [1])
    return x, normalize_axis(dim, rank_of(x))


# -- running sums and products ---------------------------------------------------------------------


def _running(context: Context, name: str, x: Expr, dim: int, start: float, step: Callable[..., Any]) -> Expr:
    x, axis = _rows(context, x, dim)
    sizes, dtype = shape_of(x), context.dtype
    wide = arithmetic_dtype(dtype)
    extents = [size for k, size in enumerate(sizes) if k != axis]

    def define(data: Any, result: Any) -> None:
        with block(name, extents) as row:
            running = T.sblock_alloc_buffer((1,), wide, scope="local")
            T.buffer_store(running, s.constant(start, wide), [0])
            with T.serial(0, sizes[axis]) as k:
                place = [*row[:axis], k, *row[axis:]]
                value = s.cast(data[tuple(place)], wide)
                T.buffer_store(running, step(running[0], value), [0])
                T.buffer_store(result, s.cast(running[0], dtype), place)

    out = context.loops(name, [x], [(sizes, dtype)], define)[0]
    return context.reshape(out, context.shape)


@converter(aten.cumsum.default)
def cumsum(context: Context, x: Expr, dim: int, dtype: Any) -> Expr:
    return _running(context, "cumsum", x, dim, 0, lambda total, v: total + v)


@converter(aten.cumprod.default)
def cumprod(context: Context, x: Expr, dim: int, dtype: Any) -> Expr:
    return _running(context, "cumprod", x, dim, 1, lambda total, v: total * v)


# -- sorting ---------------------------------------------------------------------------------------


def _precedes(a: Any, b: Any, descending: bool) -> Any:
    """Whether ``a`` must stand in front of ``b``; NaN is the largest value, as in torch."""
    first = a > b if descending else a < b
    if not is_float(a.ty.dtype):
        return first
    nan_a, nan_b = s.is_nan(a), s.is_nan(b)
    if descending:
        return tirx.Or(tirx.And(nan_a, tirx.Not(nan_b)), first)
    return tirx.Or(tirx.And(nan_b, tirx.Not(nan_a)), first)


def sorted_along(context: Context, x: Expr, axis: int, descending: bool) -> list[Expr]:
    """Values and int64 positions in order along ``axis``, by a stable bottom-up merge sort.

    O(n log n) a row, rows independent.  The two halves of each pass merge from one index buffer into
    another; elements are read through the indices.
    """
    sizes, dtype = shape_of(x), dtype_of(x)
    length = sizes[axis]
    compute = arithmetic_dtype(dtype)
    extents = [size for k, size in enumerate(sizes) if k != axis]
    int_one = int64(1)

    def define(data: Any, values: Any, order: Any, scratch: Any) -> None:
        with block("sort", extents) as row:

            def at(k: Any) -> list[Any]:
                return [*row[:axis], k, *row[axis:]]

            def element(position: Any) -> Any:
                return s.cast(data[tuple(at(position))], compute)

            width = T.sblock_alloc_buffer((1,), "int64", scope="local")
            heads = T.sblock_alloc_buffer((2,), "int64", scope="local")
            with T.serial(0, length) as k:
                T.buffer_store(order, k, at(k))
            T.buffer_store(width, int_one, [0])
            with T.While(width[0] < length):
                pairs = tirx.floordiv(length + int64(2) * width[0] - 1, int64(2) * width[0])
                with T.serial(0, pairs) as pair:
                    low = pair * int64(2) * width[0]
                    middle = tirx.min(low + width[0], length)
                    high = tirx.min(low + int64(2) * width[0], length)
                    T.buffer_store(heads, low, [0])
                    T.buffer_store(heads, middle, [1])
                    with T.serial(0, high - low) as k:
                        left = order[tuple(at(tirx.min(heads[0], length - 1)))]
                        right = order[tuple(at(tirx.min(heads[1], length - 1)))]
                        # The right half goes first only if it must: equal elements keep their order.
                        right_first = _precedes(element(right), element(left), descending)
                        from_right = tirx.Or(heads[0] >= middle, tirx.And(heads[1] < high, right_first))
                        with T.If(from_right):
                            with T.Then():
                                T.buffer_store(scratch, right, at(low + k))
                                T.buffer_store(heads, heads[1] + 1, [1])
                            with T.Else():
                                T.buffer_store(scratch, left, at(low + k))
                                T.buffer_store(heads, heads[0] + 1, [0])
                with T.serial(0, length) as k:
                    T.buffer_store(order, scratch[tuple(at(k))], at(k))
                T.buffer_store(width, width[0] * 2, [0])
            with T.serial(0, length) as k:
                T.buffer_store(values, data[tuple(at(order[tuple(at(k))]))], at(k))

    outputs = [(sizes, dtype), (sizes, "int64"), (sizes, "int64")]
    return context.loops("sort", [x], outputs, define)[:2]


@converter(aten.sort.default)
def sort(context: Context, x: Expr, dim: int, descending: bool) -> list[Expr]:
    original = shape_of(x)
    x, axis = _rows(context, x, dim)
    return [context.reshape(r, original) for r in sorted_along(context, x, axis, descending)]


@converter(aten.sort.stable)
def sort_stable(context: Context, x: Expr, stable: bool | None, dim: int, descending: bool) -> list[Expr]:
    return sort(context, x, dim, descending)


@converter(aten.argsort.default)
def argsort(context: Context, x: Expr, dim: int, descending: bool) -> Expr:
    return sort(context, x, dim, descending)[1]


@converter(aten.argsort.stable)
def argsort_stable(context: Context, x: Expr, stable: bool, dim: int, descending: bool) -> Expr:
    return sort(context, x, dim, descending)[1]


@converter(aten.topk.default, dtypes=NUMBERS)
def topk(context: Context, x: Expr, k: Any, dim: int, largest: bool, ordered: bool) -> list[Expr]:
    """The first ``k`` of the sorted rows; equal values come in the order of their positions."""
    original = shape_of(x)
    x, axis = _rows(context, x, dim)
    if original and 0 < (known(int64(k)) or 0) <= _MOST_SELECTED:
        return _selected(context, x, axis, int(k), largest)
    found = [pieces_first(context, r, axis, k) for r in sorted_along(context, x, axis, largest)]
    return found if original else [context.reshape(r, []) for r in found]


_MOST_SELECTED = 128
"""So many entries are found by insertion: few of a long row come before the last of them."""


def _selected(context: Context, x: Expr, axis: int, count: int, descending: bool) -> list[Expr]:
    """The first ``count`` entries of each row in order, and their positions, in one pass over the row."""
    sizes, dtype = shape_of(x), dtype_of(x)
    compute = arithmetic_dtype(dtype)
    extents = [size for k, size in enumerate(sizes) if k != axis]

    def define(data: Any, values: Any, order: Any) -> None:
        with block("select", extents) as row:

            def at(k: Any) -> list[Any]:
                return [*row[:axis], k, *row[axis:]]

            def kept(k: Any) -> Any:
                return s.cast(values[tuple(at(tirx.max(k, int64(0))))], compute)

            filled = T.sblock_alloc_buffer((1,), "int64", scope="local")
            place = T.sblock_alloc_buffer((1,), "int64", scope="local")
            T.buffer_store(filled, int64(0), [0])
            with T.serial(0, sizes[axis]) as k:
                entry = data[tuple(at(k))]
                value = s.cast(entry, compute)
                wanted = tirx.Or(filled[0] < count, _precedes(value, kept(int64(count - 1)), descending))
                with T.If(wanted), T.Then():
                    T.buffer_store(place, tirx.min(filled[0], int64(count - 1)), [0])
                    moves = tirx.And(place[0] > 0, _precedes(value, kept(place[0] - 1), descending))
                    with T.While(moves):
                        before = tirx.max(place[0] - 1, int64(0))
                        T.buffer_store(values, values[tuple(at(before))], at(place[0]))
                        T.buffer_store(order, order[tuple(at(before))], at(place[0]))
                        T.buffer_store(place, before, [0])
                    T.buffer_store(values, entry, at(place[0]))
                    T.buffer_store(order, k, at(place[0]))
                    T.buffer_store(filled, tirx.min(filled[0] + 1, int64(count)), [0])

    shape = [*sizes[:axis], int64(count), *sizes[axis + 1 :]]
    return context.loops("topk", [x], [(shape, dtype), (shape, "int64")], define)


def pieces_first(context: Context, x: Expr, axis: int, count: Any) -> Expr:
    """The first ``count`` entries along ``axis``."""
    if context.symbols.same(shape_of(x)[axis], count):
        return x
    return pieces(context, x, axis, [count, shape_of(x)[axis] - int64(count)])[0]


@converter(aten.kthvalue.default, dtypes=NUMBERS)
def kthvalue(context: Context, x: Expr, k: Any, dim: int, keepdim: bool) -> list[Expr]:
    x, axis = _rows(context, x, dim)
    place = int64(k) - 1
    results = []
    for found, (shape, _) in zip(sorted_along(context, x, axis, False), context.outputs, strict=True):
        before, one, _after = pieces(context, found, axis, [place, 1, shape_of(x)[axis] - place - 1])
        del before
        results.append(context.reshape(one, shape))
    return results


# -- counting --------------------------------------------------------------------------------------


@converter(aten.histc.default, dtypes=ALL)
def histc(context: Context, x: Expr, bins: int, low: Any, high: Any) -> Expr:
    """Counts in equal bins over [low, high]; the last bin holds ``high`` itself."""
    if known(int64(bins)) is None or low == high:
        raise Unsupported("histc over the data's own range")
    total: Any = tirx.IntImm("int64", 1)
    for size in shape_of(x):
        total = total * size
    flat, dtype = context.reshape(x, [total]), context.dtype
    wide = arithmetic_dtype(dtype) if is_float(dtype) else "float32"

    def define(data: Any, result: Any) -> None:
        with block("clear", [int64(bins)]) as (bin_,):
            T.buffer_store(result, s.constant(0, dtype), [bin_])
        with block("count", [total], ordered=True) as (k,):
            value = s.cast(data[k], wide)
            first, last = s.constant(low, wide), s.constant(high, wide)
            place = tirx.Cast("int64", (value - first) * s.constant(bins, wide) / (last - first))
            place = tirx.min(place, int64(bins - 1))
            with T.If(tirx.And(value >= first, value <= last)), T.Then():
                T.buffer_store(result, result[place] + s.constant(1, dtype), [place])

    return context.loops("histc", [flat], [([int64(bins)], dtype)], define)[0]
