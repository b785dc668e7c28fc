"""Convolutions and transposed convolutions of any spatial rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import relax, te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, Unsupported, rank_of, shape_of
from graphopt.codegen.relax.dtypes import FLOATS, INTEGERS, accumulator_dtype
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import known

aten = torch.ops.aten

_RELAX = {1: (relax.op.nn.conv1d, "NCW", "OIW"), 2: (relax.op.nn.conv2d, "NCHW", "OIHW"),
          3: (relax.op.nn.conv3d, "NCDHW", "OIDHW")}  # fmt: skip


def _per_axis(values: Any, rank: int) -> list[int]:
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    return [int(v) for v in (values * rank if len(values) == 1 else values)]


def convolve(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    stride: Any,
    padding: Sequence[int],
    dilation: Any,
    groups: int,
) -> Expr:
    """Cross-correlation ``[N, C, *spatial] x [O, C/groups, *kernel]``.

    Args:
        padding: before and after each axis, ``[*before, *after]``.
    """
    unbatched = rank_of(x) == rank_of(weight) - 1
    rank = rank_of(weight) - 2
    if unbatched:
        x = context.reshape(x, [1, *shape_of(x)])
    strides, dilations = _per_axis(stride, rank), _per_axis(dilation, rank)
    shape = [1, *context.shape] if unbatched else context.shape
    dtype = context.dtype
    if dtype in ("float32", "float64"):
        function, data_layout, kernel_layout = _RELAX[rank]
        result = context.emit(
            function(x, weight, strides=strides, padding=list(padding), dilation=dilations, groups=groups,
                     data_layout=data_layout, kernel_layout=kernel_layout)
        )  # fmt: skip
        result = context.assume_shape(result, shape)
        if bias is not None:
            result = _add_bias(context, result, bias, shape)
    else:
        result = _direct(context, x, weight, bias, strides, padding[:rank], dilations, groups, shape)
    return context.reshape(result, shape[1:]) if unbatched else result


def _add_bias(context: Context, x: Expr, bias: Expr, shape: Sequence[Any]) -> Expr:
    def define(data: te.Tensor, offset: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda n, c, *rest: data(n, c, *rest) + offset(c), name="add_bias")

    return context.kernel("add_bias", [x, bias], define)


def _direct(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    shape: Sequence[Any],
) -> Expr:
    """Integer and half types: sums in the accumulator type, one rounding at the end."""
    dtype = context.dtype
    wide = accumulator_dtype(dtype)

    def define(data: te.Tensor, kernel: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        per_group = kernel.shape[1]
        outputs_per_group = tirx.floordiv(kernel.shape[0], groups)
        channel = te.reduce_axis((0, per_group), "ci")
        taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel.shape[2:])]

        def element(n: Any, c: Any, *place: Any) -> Any:
            index = [p * st + t * d - pad for p, st, t, d, pad in
                     zip(place, strides, taps, dilations, padding, strict=True)]  # fmt: skip
            source = tirx.floordiv(c, outputs_per_group) * per_group + channel if groups > 1 else channel
            value = _guarded(data, [n, source, *index], 2, any(padding) or True)
            return te.sum(
                s.cast(value, wide) * s.cast(kernel(c, channel, *taps), wide), axis=[channel, *taps]
            )

        total = te.compute(shape, element, name="conv")
        return _finish(total, offset, shape, dtype, wide)

    return context.kernel("conv", [x, weight, *([bias] if bias is not None else [])], define)


def _finish(
    total: te.Tensor, bias: Sequence[te.Tensor], shape: Sequence[Any], dtype: str, wide: str
) -> te.Tensor:
    def element(n: Any, c: Any, *place: Any) -> Any:
        value = total(n, c, *place)
        if bias:
            value = value + s.cast(bias[0](c), wide)
        return s.cast(value, dtype)

    return te.compute(shape, element, name="round")


def _guarded(data: te.Tensor, index: Sequence[Any], first: int, guard: bool) -> Any:
    """``data`` at ``index``, zero outside; axes before ``first`` are inside by construction."""
    inside = [
        c for i, size in zip(index[first:], data.shape[first:], strict=True) for c in (i >= 0, i < size)
    ]
    if not guard or not inside:
        return data(*index)
    return tirx.if_then_else(tirx.all(*inside), data(*index), s.constant(0, str(data.dtype)))


@converter(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, dtypes=FLOATS | INTEGERS)
def conv(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Expr:
    pads = _per_axis(padding, rank_of(weight) - 2)
    return convolve(context, x, weight, bias, stride, pads + pads, dilation, groups)


@converter(aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding, dtypes=FLOATS | INTEGERS)
def conv_padding(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    stride: Any,
    padding: str,
    dilation: Any,
    groups: int,
) -> Expr:
    rank = rank_of(weight) - 2
    if padding == "valid":
        before = after = [0] * rank
    else:
        kernel = [known(k) for k in shape_of(weight)[2:]]
        total = [d * (k - 1) for d, k in zip(_per_axis(dilation, rank), kernel, strict=True) if k is not None]
        before = [t // 2 for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
    return convolve(context, x, weight, bias, stride, before + after, dilation, groups)


@converter(aten.convolution.default, dtypes=FLOATS | INTEGERS)
def convolution(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Expr:
    if transposed:
        return conv_transpose(context, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(context, x, weight, bias, stride, padding, dilation, groups)


@converter(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input,
           dtypes=FLOATS | INTEGERS)  # fmt: skip
def conv_transpose(
    context: Context,
    x: Expr,
    weight: Expr,
    bias: Expr | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Expr:
    """Each output gathers the taps that reach it: ``y[o] = sum x[i] w[k]`` over ``o + p = i s + k d``.

    Weight ``[C, O/groups, *kernel]``.  With dilation 1 only every ``stride``-th tap can reach an
    output, so the reduction runs over those alone.
    """
    unbatched = rank_of(x) == rank_of(weight) - 1
    rank = rank_of(weight) - 2
    if unbatched:
        x = context.reshape(x, [1, *shape_of(x)])
    shape = [1, *context.shape] if unbatched else context.shape
    strides, pads, dilations = (_per_axis(v, rank) for v in (stride, padding, dilation))
    kernel_sizes = [k for k in map(known, shape_of(weight)[2:]) if k is not None]
    if len(kernel_sizes) != rank:
        raise Unsupported("a kernel of symbolic size")
    dtype = context.dtype
    wide = accumulator_dtype(dtype)

    def define(data: te.Tensor, kernel: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        per_group = tirx.floordiv(data.shape[1], groups)
        outputs_per_group = kernel.shape[1]
        channel = te.reduce_axis((0, per_group), "ci")
        steps = [st if d == 1 else 1 for st, d in zip(strides, dilations, strict=True)]
        taps = [
            te.reduce_axis((0, -(-k // step)), f"k{i}")
            for i, (k, step) in enumerate(zip(kernel_sizes, steps, strict=True))
        ]

        def element(n: Any, c: Any, *place: Any) -> Any:
            source = channel + tirx.floordiv(c, outputs_per_group) * per_group if groups > 1 else channel
            within = tirx.floormod(c, outputs_per_group) if groups > 1 else c
            index, tap_index, conditions = [], [], []
            axes = zip(place, taps, strides, pads, dilations, kernel_sizes, data.shape[2:], strict=True)
            for p, tap, st, pad, d, k, size in axes:
                position = p + pad
                if d == 1:  # the taps congruent to the position
                    t = tirx.floormod(position, st) + tap * st
                    i = tirx.floordiv(position, st) - tap
                    if k % st:
                        conditions.append(t < k)
                else:
                    t = tap.var
                    reach = position - tap * d
                    i = tirx.floordiv(reach, st)
                    conditions.append(tirx.EQ(tirx.floormod(reach, st), tirx.IntImm("int64", 0)))
                conditions += [i >= 0, i < size]
                index.append(i)
                tap_index.append(t)
            value = s.cast(data(n, source, *index), wide) * s.cast(kernel(source, within, *tap_index), wide)
            return te.sum(
                tirx.if_then_else(tirx.all(*conditions), value, s.constant(0, wide)), axis=[channel, *taps]
            )

        total = te.compute(shape, element, name="conv_transpose")
        return _finish(total, offset, shape, dtype, wide) if offset or wide != dtype else total

    result = context.kernel("conv_transpose", [x, weight, *([bias] if bias is not None else [])], define)
    return context.reshape(result, shape[1:]) if unbatched else result
