"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, dtype_of, normalize_axis, rank_of, shape_of
from graphopt.codegen.relax.dtypes import FLOATS, arithmetic_dtype
from graphopt.codegen.relax.elementwise import elementwise
from graphopt.codegen.relax.reducers import ALL, ANY, MAX, MIN, PRODUCT, SUM
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.rows import reduce_rows

aten = torch.ops.aten


def axes_of(dim: Any, rank: int, *, empty_means_all: bool = True) -> list[int]:
    """The axes that a ``dim`` operand names, sorted; None means all of them."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim and empty_means_all):
        return list(range(rank))
    dims = list(dim) if isinstance(dim, (list, tuple)) else [dim]
    return sorted(normalize_axis(d, rank) for d in dims) if rank else []


def reduce(
    context: Context,
    name: str,
    x: Expr,
    axes: Sequence[int],
    keepdim: bool,
    reducer: Callable[..., Any],
    *,
    compute: str,
    prepare: Callable[..., Any] = lambda v: v,
    finish: Callable[[Any], Any] = lambda v: v,
    dtype: str | None = None,
) -> Expr:
    """Emits ``finish(reducer(prepare(x)))`` over ``axes``.

    Args:
        compute: the type that elements are converted to, and that the reduction is done in.
        dtype: the result's type; default: the node's.
    """
    sizes = shape_of(x)
    shape = [
        tirx.IntImm("int64", 1) if i in axes else size
        for i, size in enumerate(sizes)
        if keepdim or i not in axes
    ]
    dtype = dtype or context.dtype

    def define(data: te.Tensor) -> te.Tensor:
        taps = {axis: te.reduce_axis((0, sizes[axis]), f"k{axis}") for axis in axes}

        def total(*index: Any) -> Any:
            kept = list(index) if keepdim else spread(index, axes, len(sizes))
            place = [taps.get(i, kept[i]) for i in range(len(sizes))]
            value = prepare(s.cast(data(*place), compute))
            return reducer(value, axis=list(taps.values())) if taps else value

        result = te.compute(shape, total, name=name)
        return te.compute(shape, lambda *i: s.cast(finish(result(*i)), dtype), name="finish")

    if not sizes:  # nothing to reduce over
        return elementwise(context, name, [x], lambda v: finish(prepare(v)), compute=compute)
    return context.kernel(name, [x], define)


def spread(index: Sequence[Any], axes: Sequence[int], rank: int) -> list[Any]:
    """An index of a reduced tensor among ``rank`` axes: None on those in ``axes``."""
    rest = iter(index)
    return [None if i in axes else next(rest) for i in range(rank)]


def count(sizes: Sequence[Any], axes: Sequence[int]) -> Any:
    """The number of elements along ``axes``."""
    total: Any = tirx.IntImm("int64", 1)
    for axis in axes:
        total = total * sizes[axis]
    return total


@converter(aten.sum.default)
def sum_all(context: Context, x: Expr, dtype: Any) -> Expr:
    return sum_dims(context, x, None, False, dtype)


@converter(aten.sum.dim_IntList)
def sum_dims(context: Context, x: Expr, dim: Any, keepdim: bool, dtype: Any) -> Expr:
    return reduce(
        context, "sum", x, axes_of(dim, rank_of(x)), keepdim, SUM, compute=arithmetic_dtype(context.dtype)
    )


@converter(aten.mean.default, dtypes=FLOATS)
def mean_all(context: Context, x: Expr, dtype: Any) -> Expr:
    return mean(context, x, None, False, dtype)


@converter(aten.mean.dim, dtypes=FLOATS)
def mean(context: Context, x: Expr, dim: Any, keepdim: bool, dtype: Any) -> Expr:
    axes, wide = axes_of(dim, rank_of(x)), arithmetic_dtype(context.dtype)
    total = s.cast(count(shape_of(x), axes), wide)
    return reduce(context, "mean", x, axes, keepdim, SUM, compute=wide, finish=lambda v: v / total)


@converter(aten.prod.default)
def prod_all(context: Context, x: Expr, dtype: Any) -> Expr:
    return prod(context, x, None, False, dtype)


@converter(aten.prod.dim_int)
def prod(context: Context, x: Expr, dim: Any, keepdim: bool, dtype: Any) -> Expr:
    axes = axes_of(dim, rank_of(x))
    return reduce(context, "prod", x, axes, keepdim, PRODUCT, compute=arithmetic_dtype(context.dtype))


@converter(aten.amax.default)
def amax(context: Context, x: Expr, dim: Any, keepdim: bool) -> Expr:
    axes = axes_of(dim, rank_of(x))
    return reduce(context, "amax", x, axes, keepdim, MAX, compute=arithmetic_dtype(context.dtype))


@converter(aten.amin.default)
def amin(context: Context, x: Expr, dim: Any, keepdim: bool) -> Expr:
    axes = axes_of(dim, rank_of(x))
    return reduce(context, "amin", x, axes, keepdim, MIN, compute=arithmetic_dtype(context.dtype))


@converter(aten.max.default)
def max_all(context: Context, x: Expr) -> Expr:
    return amax(context, x, None, False)


@converter(aten.min.default)
def min_all(context: Context, x: Expr) -> Expr:
    return amin(context, x, None, False)


def _truth(v: Any) -> Any:
    return tirx.Cast("int8", tirx.NE(v, s.constant(0, v.ty.dtype)))


def _reduce_truth(context: Context, name: str, x: Expr, dim: Any, keepdim: bool, reducer: Any) -> Expr:
    axes = axes_of(dim, rank_of(x))
    compute = arithmetic_dtype(dtype_of(x))
    return reduce(context, name, x, axes, keepdim, reducer, compute=compute, prepare=_truth)


@converter(aten.any.dim, aten.any.dims)
def any_dims(context: Context, x: Expr, dim: Any, keepdim: bool) -> Expr:
    return _reduce_truth(context, "any", x, dim, keepdim, ANY)


@converter(aten.any.default)
def any_all(context: Context, x: Expr) -> Expr:
    return _reduce_truth(context, "any", x, None, False, ANY)


@converter(aten.all.dim, aten.all.dims)
def all_dims(context: Context, x: Expr, dim: Any, keepdim: bool) -> Expr:
    return _reduce_truth(context, "all", x, dim, keepdim, ALL)


@converter(aten.all.default)
def all_all(context: Context, x: Expr) -> Expr:
    return _reduce_truth(context, "all", x, None, False, ALL)


# -- statistics ------------------------------------------------------------------------------------


def mean_and_variance(
    data: te.Tensor, axes: Sequence[int], wide: str, correction: Any, lanes: int | None
) -> tuple[te.Tensor, te.Tensor]:
    """Two-pass mean and variance over ``axes``, kept as axes of size 1.

    Args:
        correction: subtracted from the count in the variance's divisor (a TIR scalar of ``wide``).
        lanes: see :func:`reduce_rows`.
    """
    sizes = list(data.shape)
    total = s.cast(count(sizes, axes), wide)
    sums = sum_over("sum", sizes, axes, lambda _, place: s.cast(data(*place), wide), lanes)
    means = te.compute(list(sums.shape), lambda *i: sums(*i) / total, name="mean")

    def squared(index: Any, place: Any) -> Any:
        distance = s.cast(data(*place), wide) - means(*index)
        return distance * distance

    squares = sum_over("squares", sizes, axes, squared, lanes)
    divisor = tirx.max(total - correction, s.constant(0, wide))
    return means, te.compute(list(sums.shape), lambda *i: squares(*i) / divisor, name="variance")


def sum_over(
    name: str, sizes: Sequence[Any], axes: Sequence[int], term: Callable[..., Any], lanes: int | None
) -> te.Tensor:
    """Sums of ``term(index, place)`` over ``axes``, which are kept with size 1.

    Args:
        sizes: of the tensor that ``place`` is an index of.
        term: ``index`` is the one of the sum.
        lanes: see :func:`reduce_rows`.
    """
    shape = [tirx.IntImm("int64", 1) if i in axes else size for i, size in enumerate(sizes)]
    if _is_row(sizes, axes):
        first, inner = axes[0], sizes[axes[0] :]
        return reduce_rows(
            name,
            shape,
            count(sizes, axes),
            lambda index, k: term(index, [*index[:first], *unravel(k, inner)]),
            SUM,
            lanes,
        )
    taps = {axis: te.reduce_axis((0, sizes[axis]), f"k{axis}") for axis in axes}

    def element(*index: Any) -> Any:
        place = [taps.get(i, index[i]) for i in range(len(sizes))]
        return SUM(term(index, place), axis=list(taps.values()))

    return te.compute(shape, element, name=name)


def _is_row(sizes: Sequence[Any], axes: Sequence[int]) -> bool:
    """Whether ``axes`` are the last ones, so that their elements lie one after the other in memory.

    Of several, the sizes have to be known: TVM then sees that the places follow one another.
    """
    last = list(axes) == list(range(len(sizes) - len(axes), len(sizes)))
    return last and (len(axes) == 1 or all(isinstance(n, int | tirx.IntImm) for n in sizes[axes[0] :]))


def unravel(k: Any, sizes: Sequence[Any]) -> list[Any]:
    """The index in a tensor of these sizes of its element number ``k``."""
    index: list[Any] = []
    for size in reversed(sizes[1:]):
        index.insert(0, tirx.floormod(k, size))
        k = tirx.floordiv(k, size)
    return [k, *index]


def _variance(context: Context, x: Expr, dim: Any, correction: Any, keepdim: bool, root: bool) -> Expr:
    if rank_of(x) == 0:
        x = context.reshape(x, [1])
    axes, wide, dtype = axes_of(dim, rank_of(x)), arithmetic_dtype(context.dtype), context.dtype
    less = s.constant(1.0 if correction is None else float(correction), wide)

    def define(data: te.Tensor) -> te.Tensor:
        _, variance = mean_and_variance(data, axes, wide, less, context.lanes)

        def element(*index: Any) -> Any:
            kept = index if keepdim else [0 if i is None else i for i in spread(index, axes, rank_of(x))]
            value = variance(*kept)
            return s.cast(tirx.sqrt(value) if root else value, dtype)

        return te.compute(context.shape, element, name="std" if root else "var")

    return context.kernel("std" if root else "var", [x], define)


@converter(aten.var.correction, dtypes=FLOATS)
def var(context: Context, x: Expr, dim: Any, correction: Any, keepdim: bool) -> Expr:
    return _variance(context, x, dim, correction, keepdim, False)


@converter(aten.var.dim, dtypes=FLOATS)
def var_dim(context: Context, x: Expr, dim: Any, unbiased: bool, keepdim: bool) -> Expr:
    return _variance(context, x, dim, int(unbiased), keepdim, False)


@converter(aten.std.correction, dtypes=FLOATS)
def std(context: Context, x: Expr, dim: Any, correction: Any, keepdim: bool) -> Expr:
    return _variance(context, x, dim, correction, keepdim, True)


@converter(aten.std.dim, dtypes=FLOATS)
def std_dim(context: Context, x: Expr, dim: Any, unbiased: bool, keepdim: bool) -> Expr:
    return _variance(context, x, dim, int(unbiased), keepdim, True)


@converter(aten.logsumexp.default, dtypes=FLOATS)
def logsumexp(context: Context, x: Expr, dim: Any, keepdim: bool) -> Expr:
    axes, wide = axes_of(dim, rank_of(x)), arithmetic_dtype(context.dtype)
    if rank_of(x) == 0:
        return x
    peak = reduce(context, "amax", x, axes, True, MAX, compute=wide, dtype=wide)
    sizes = shape_of(x)

    def define(data: te.Tensor, peaks: te.Tensor) -> te.Tensor:
        taps = {axis: te.reduce_axis((0, sizes[axis]), f"k{axis}") for axis in axes}

        def high(kept: Sequence[Any]) -> Any:
            value = peaks(*kept)
            return tirx.Select(s.is_infinite(value), s.constant(0, wide), value)

        def total(*index: Any) -> Any:
            place = [taps.get(i, index[i]) for i in range(len(sizes))]
            kept = [0 if i in axes else index[i] for i in range(len(sizes))]
            return SUM(s.exp(s.cast(data(*place), wide) - high(kept)), axis=list(taps.values()))

        sums = te.compute(list(peaks.shape), total, name="sum_exp")

        def element(*index: Any) -> Any:
            kept = index if keepdim else [0 if i is None else i for i in spread(index, axes, len(sizes))]
            return s.cast(tirx.log(sums(*kept)) + high(kept), context.dtype)

        return te.compute(context.shape, element, name="logsumexp")

    return context.kernel("logsumexp", [x, peak], define)


@converter(aten.linalg_vector_norm.default, dtypes=FLOATS)
def vector_norm(context: Context, x: Expr, order: float, dim: Any, keepdim: bool, dtype: Any) -> Expr:
    return _norm(context, x, float(order), axes_of(dim, rank_of(x)), keepdim)


@converter(aten.norm.ScalarOpt_dim, dtypes=FLOATS)
def norm(context: Context, x: Expr, order: Any, dim: Any, keepdim: bool) -> Expr:
    return _norm(context, x, 2.0 if order is None else float(order), axes_of(dim, rank_of(x)), keepdim)


def _norm(context: Context, x: Expr, order: float, axes: Sequence[int], keepdim: bool) -> Expr:
    wide = arithmetic_dtype(context.dtype)
    rules: dict[float, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {
        2.0: (SUM, lambda v: v * v, tirx.sqrt),
        1.0: (SUM, tirx.abs, lambda v: v),
        0.0: (SUM, lambda v: s.cast(tirx.NE(v, s.constant(0, wide)), wide), lambda v: v),
        float("inf"): (MAX, tirx.abs, lambda v: v),
        float("-inf"): (MIN, tirx.abs, lambda v: v),
    }
    power = s.constant(order, wide)
    general = (
        SUM,
        lambda v: tirx.pow(tirx.abs(v), power),
        lambda v: tirx.pow(v, s.constant(1.0 / order, wide)),
    )
    reducer, prepare, finish = rules.get(order) or general
    return reduce(context, "norm", x, axes, keepdim, reducer, compute=wide, prepare=prepare, finish=finish)
