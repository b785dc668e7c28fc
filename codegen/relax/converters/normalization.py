"""Normalisation and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

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
from graphopt.codegen.relax.converters.reduction import count, mean_and_variance, sum_over
from graphopt.codegen.relax.dtypes import FLOATS, arithmetic_dtype
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.rows import reduce_rows

aten = torch.ops.aten


# -- batch norm ------------------------------------------------------------------------------------


def batch_norm_inference(
    context: Context, x: Expr, weight: Expr | None, bias: Expr | None, mean: Expr, variance: Expr, eps: float
) -> Expr:
    """``x * scale + shift`` a channel; scale and shift are kernels of their own, so that they fold."""
    wide = arithmetic_dtype(dtype_of(mean))
    channels = shape_of(mean)

    def scale_of(v: te.Tensor, *w: te.Tensor) -> te.Tensor:
        def element(c: Any) -> Any:
            inverse = s.constant(1, wide) / tirx.sqrt(s.cast(v(c), wide) + s.constant(eps, wide))
            return inverse * s.cast(w[0](c), wide) if w else inverse

        return te.compute(channels, element, name="scale")

    scale = context.kernel(
        "batch_norm_scale", [variance, *([weight] if weight is not None else [])], scale_of
    )

    def shift_of(m: te.Tensor, k: te.Tensor, *b: te.Tensor) -> te.Tensor:
        def element(c: Any) -> Any:
            value = s.constant(0, wide) - s.cast(m(c), wide) * k(c)
            return value + s.cast(b[0](c), wide) if b else value

        return te.compute(channels, element, name="shift")

    shift = context.kernel("batch_norm_shift", [mean, scale, *([bias] if bias is not None else [])], shift_of)
    shape, dtype = shape_of(x), dtype_of(x)

    def apply(data: te.Tensor, k: te.Tensor, b: te.Tensor) -> te.Tensor:
        return te.compute(
            shape,
            lambda *i: s.cast(s.cast(data(*i), wide) * k(i[1]) + b(i[1]), dtype),
            name="batch_norm",
        )

    return context.kernel("batch_norm", [x, scale, shift], apply)


@converter(aten.batch_norm.default, dtypes=FLOATS)
def batch_norm(
    context: Context,
    x: Expr,
    weight: Expr | None,
    bias: Expr | None,
    mean: Expr | None,
    variance: Expr | None,
    training: bool,
    _momentum: float,
    eps: float,
    _cudnn: bool,
) -> Expr:
    if training or mean is None or variance is None:
        raise Unsupported("batch norm in training mode (it uses the batch's own statistics)")
    return batch_norm_inference(context, x, weight, bias, mean, variance, eps)


@converter(aten._native_batch_norm_legit_no_training.default, dtypes=FLOATS)
def batch_norm_no_training(
    context: Context,
    x: Expr,
    weight: Expr | None,
    bias: Expr | None,
    mean: Expr,
    variance: Expr,
    _momentum: float,
    eps: float,
) -> list[Expr]:
    empty = torch.zeros(0, dtype=context.values[3].dtype)
    result = batch_norm_inference(context, x, weight, bias, mean, variance, eps)
    return [result, context.constant(empty), context.constant(empty)]


# -- layer, group, instance and RMS norm -----------------------------------------------------------


def _normalized(
    context: Context,
    name: str,
    x: Expr,
    axes: Sequence[int],
    eps: float,
    scale: Expr | None,
    shift: Expr | None,
    place: Any,
) -> Expr:
    """(x - mean) / sqrt(variance + eps) over ``axes``, then scale and shift at ``place(index)``."""
    dtype, shape = dtype_of(x), shape_of(x)
    wide = arithmetic_dtype(dtype)

    def define(data: te.Tensor, *affine: te.Tensor) -> te.Tensor:
        means, variances = mean_and_variance(data, axes, wide, s.constant(0, wide), context.lanes)
        inverse = te.compute(
            list(means.shape),
            lambda *i: s.constant(1, wide) / tirx.sqrt(variances(*i) + s.constant(eps, wide)),
            name="inverse_deviation",
        )

        def element(*i: Any) -> Any:
            row = [0 if k in axes else v for k, v in enumerate(i)]
            value = (s.cast(data(*i), wide) - means(*row)) * inverse(*row)
            rest = list(affine)
            if scale is not None:
                value = value * s.cast(rest.pop(0)(*place(*i)), wide)
            if shift is not None:
                value = value + s.cast(rest.pop(0)(*place(*i)), wide)
            return s.cast(value, dtype)

        return te.compute(shape, element, name=name)

    return context.kernel(name, [x, *(p for p in (scale, shift) if p is not None)], define)


@converter(aten.layer_norm.default, dtypes=FLOATS)
def layer_norm(
    context: Context,
    x: Expr,
    normalized: Sequence[int],
    weight: Expr | None,
    bias: Expr | None,
    eps: float,
    _cudnn: bool,
) -> Expr:
    first = rank_of(x) - len(normalized)
    axes = list(range(first, rank_of(x)))
    return _normalized(context, "layer_norm", x, axes, eps, weight, bias, lambda *i: i[first:])


@converter(aten.group_norm.default, dtypes=FLOATS)
def group_norm(
    context: Context, x: Expr, groups: int, weight: Expr | None, bias: Expr | None, eps: float, _cudnn: bool
) -> Expr:
    batch, channels, *rest = shape_of(x)
    size = context.symbols.analyzer.simplify(tirx.floordiv(channels, groups))
    if context.lanes is not None:
        parts = context.reshape(x, [batch, groups, size, count(rest, range(len(rest)))])
        return normalize_parts(context, x, parts, weight, bias, eps, channel_axis=1)
    split = context.reshape(x, [batch, groups, size, *rest])
    axes = list(range(2, rank_of(split)))
    result = _normalized(
        context, "group_norm", split, axes, eps, weight, bias, lambda n, g, c, *_: [g * size + c]
    )
    return context.reshape(result, context.shape)


def normalize_parts(
    context: Context,
    x: Expr,
    parts: Expr,
    weight: Expr | None,
    bias: Expr | None,
    eps: float,
    *,
    channel_axis: int,
) -> Expr:
    """Group norm whose groups are read once, in parts that stay in cache and that cores share.

    Each part has a mean and a variance, of which those of the group follow without cancellation (Chan, Golub
    and LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician 37(3), 1983,
    equation 2.1 for parts of one length).

    Args:
        x: what is normalised, of any layout.
        parts: ``[N, groups, parts, K]``, the same elements.
        weight, bias: ``[C]`` or None.
        channel_axis: of ``x``.
    """
    dtype, shape = dtype_of(x), shape_of(x)
    wide = arithmetic_dtype(dtype)
    batch, groups, pieces, _ = shape_of(parts)
    size = tirx.floordiv(shape[channel_axis], groups)

    def define(data: te.Tensor) -> te.Tensor:
        means, variances = mean_and_variance(data, [3], wide, s.constant(0, wide), context.lanes)

        def moment(n: Any, g: Any, p: Any, which: Any) -> Any:
            return tirx.Select(which == 0, means(n, g, p, 0), variances(n, g, p, 0))

        return te.compute([batch, groups, pieces, 2], moment, name="moments")

    of_parts = context.kernel("part_moments", [parts], define)

    def merge(moments: te.Tensor) -> te.Tensor:
        total = s.cast(pieces, wide)
        k, j = te.reduce_axis((0, pieces), "part"), te.reduce_axis((0, pieces), "part")
        sums = te.compute([batch, groups, 1], lambda n, g, _: te.sum(moments(n, g, k, 0), axis=k), name="sum")

        def spread(n: Any, g: Any, _: Any) -> Any:
            distance = moments(n, g, j, 0) - sums(n, g, 0) / total
            return te.sum(moments(n, g, j, 1) + distance * distance, axis=j)

        spreads = te.compute([batch, groups, 1], spread, name="spread")

        def moment(n: Any, g: Any, which: Any) -> Any:
            variance = spreads(n, g, 0) / total
            inverse = s.constant(1, wide) / tirx.sqrt(variance + s.constant(eps, wide))
            return tirx.Select(which == 0, sums(n, g, 0) / total, inverse)

        return te.compute([batch, groups, 2], moment, name="moments")

    of_groups = context.kernel("group_moments", [of_parts], merge)

    def apply(data: te.Tensor, moments: te.Tensor, *affine: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            n, c = i[0], i[channel_axis]
            g = tirx.floordiv(c, size)
            value = (s.cast(data(*i), wide) - moments(n, g, 0)) * moments(n, g, 1)
            rest = list(affine)
            if weight is not None:
                value = value * s.cast(rest.pop(0)(c), wide)
            if bias is not None:
                value = value + s.cast(rest.pop(0)(c), wide)
            return s.cast(value, dtype)

        return te.compute(shape, element, name="group_norm")

    return context.kernel("group_norm", [x, of_groups, *(p for p in (weight, bias) if p is not None)], apply)


@converter(aten.instance_norm.default, dtypes=FLOATS)
def instance_norm(
    context: Context,
    x: Expr,
    weight: Expr | None,
    bias: Expr | None,
    mean: Expr | None,
    variance: Expr | None,
    use_input_stats: bool,
    _momentum: float,
    eps: float,
    _cudnn: bool,
) -> Expr:
    if not use_input_stats:
        assert mean is not None and variance is not None
        return batch_norm_inference(context, x, weight, bias, mean, variance, eps)
    axes = list(range(2, rank_of(x)))
    return _normalized(context, "instance_norm", x, axes, eps, weight, bias, lambda n, c, *_: [c])


@converter(aten.rms_norm.default, dtypes=FLOATS)
def rms_norm(
    context: Context, x: Expr, normalized: Sequence[int], weight: Expr | None, eps: float | None
) -> Expr:
    """x / sqrt(mean(x²) + eps); without an eps torch takes the epsilon of the dtype it computes in."""
    dtype, shape = dtype_of(x), shape_of(x)
    wide = arithmetic_dtype(dtype)
    first = rank_of(x) - len(normalized)
    axes = list(range(first, rank_of(x)))
    if eps is None:
        eps = torch.finfo(context.values[0].dtype if wide == dtype else torch.float32).eps

    def define(data: te.Tensor, *w: te.Tensor) -> te.Tensor:
        total = s.cast(count(shape, axes), wide)

        def square(_: Any, place: Sequence[Any]) -> Any:
            value = s.cast(data(*place), wide)
            return value * value

        squares = sum_over("squares", shape, axes, square, context.lanes)
        inverse = te.compute(
            list(squares.shape),
            lambda *i: s.constant(1, wide) / tirx.sqrt(squares(*i) / total + s.constant(eps, wide)),
            name="inverse_rms",
        )

        def element(*i: Any) -> Any:
            value = s.cast(data(*i), wide) * inverse(*i[:first], *([0] * len(axes)))
            return s.cast(value * s.cast(w[0](*i[first:]), wide) if w else value, dtype)

        return te.compute(shape, element, name="rms_norm")

    return context.kernel("rms_norm", [x, *([weight] if weight is not None else [])], define)


# -- softmax ---------------------------------------------------------------------------------------


def softmax_along(context: Context, x: Expr, axis: int, dtype: str, *, logarithm: bool = False) -> Expr:
    """Softmax (or its logarithm) of ``x`` converted to ``dtype``, the row's maximum taken off first."""
    shape, wide = shape_of(x), arithmetic_dtype(dtype)
    rows = [*shape[:axis], tirx.IntImm("int64", 1), *shape[axis + 1 :]]

    def define(data: te.Tensor) -> te.Tensor:
        def over(name: str, reducer: Any, term: Any) -> te.Tensor:
            def at(i: Any, k: Any) -> Any:
                return term(i, [*i[:axis], k, *i[axis + 1 :]])

            lanes = context.lanes if axis == len(shape) - 1 else None
            return reduce_rows(name, rows, shape[axis], at, reducer, lanes)

        def row(i: Any) -> list[Any]:
            return [*i[:axis], 0, *i[axis + 1 :]]

        # A plain maximum: a NaN in the row reaches every element through the sum.
        peak = over("peak", te.max, lambda _, place: s.cast(data(*place), wide))
        if logarithm:
            sums = over("sum", te.sum, lambda i, place: s.exp(s.cast(data(*place), wide) - peak(*i)))
            log = te.compute(rows, lambda *i: tirx.log(sums(*i)), name="log_sum")
            return te.compute(
                shape,
                lambda *i: s.cast(s.cast(data(*i), wide) - peak(*row(i)) - log(*row(i)), dtype),
                name="log_softmax",
            )
        exps = te.compute(shape, lambda *i: s.exp(s.cast(data(*i), wide) - peak(*row(i))), name="exp")
        sums = over("sum", te.sum, lambda _, place: exps(*place))
        return te.compute(shape, lambda *i: s.cast(exps(*i) / sums(*row(i)), dtype), name="softmax")

    return context.kernel("log_softmax" if logarithm else "softmax", [x], define)


@converter(aten.softmax.int, aten._softmax.default)
def softmax(context: Context, x: Expr, dim: int, _dtype: Any) -> Expr:
    return _rows(context, x, dim, False)


@converter(aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(context: Context, x: Expr, dim: int, _dtype: Any) -> Expr:
    return _rows(context, x, dim, True)


def _rows(context: Context, x: Expr, dim: int, logarithm: bool) -> Expr:
    if rank_of(x) == 0:
        one = softmax_along(context, context.reshape(x, [1]), 0, context.dtype, logarithm=logarithm)
        return context.reshape(one, [])
    return softmax_along(context, x, normalize_axis(dim, rank_of(x)), context.dtype, logarithm=logarithm)
