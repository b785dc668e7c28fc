"""Depthwise convolutions for GPUs, channels last: neighbouring threads read neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, shape_of
from graphopt.codegen.relax.dtypes import accumulator_dtype


def window_conv2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
) -> Expr:
    """A convolution in which each channel has one filter of its own, channels last.

    Args:
        x: ``[N, H, W, C]``.
        weight: ``[C, 1, KH, KW]``; held as ``[KH, KW, C]``.
        padding: ``[top, left, bottom, right]``.
        shape: of the result, ``[N, OH, OW, C]``.
    """
    _, height, width, _ = shape_of(x)
    dtype = context.dtype
    wide = accumulator_dtype(dtype)

    def define(data: te.Tensor, kernel: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        kh, kw = (te.reduce_axis((0, n), f"k{i}") for i, n in enumerate(weight.shape[2:]))

        def element(n: Any, y: Any, x: Any, c: Any) -> Any:
            row = y * strides[0] + kh * dilations[0] - padding[0]
            column = x * strides[1] + kw * dilations[1] - padding[1]
            value = data(n, row, column, c)
            if any(padding):
                inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
                value = tirx.if_then_else(inside, value, s.constant(0, dtype))
            return te.sum(s.cast(value, wide) * s.cast(kernel(kh, kw, c), wide), axis=[kh, kw])

        total = te.compute(shape, element, name="window")

        def result(*index: Any) -> Any:
            value = total(*index)
            if offset:
                value = value + s.cast(offset[0](index[-1]), wide)
            return s.cast(value, dtype)

        return te.compute(shape, result, name="result")

    filters = context.constant(weight[:, 0].permute(1, 2, 0))
    operands = [x, filters, *([context.constant(bias)] if bias is not None else [])]
    return context.kernel("window_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)
