"""Average pooling and means of 8-bit tensors with a scale and a zero point."""

from __future__ import annotations

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.converters.contrib.quantized_elementwise import (
    centred,
    dequantized,
    saturated,
)
from graphopt.frontends.onnx.converters.pooling import average_pool
from graphopt.frontends.onnx.converters.quantization import quantize, requantize
from graphopt.frontends.onnx.dtypes import element_type


@contrib_op("QLinearAveragePool")
def qlinear_average_pool(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor | None,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    """x [N, C, *size], or [N, *size, C] if ``channels_last``: pooled in float, as onnxruntime does.

    The zero point is added before rounding, unlike in QuantizeLinear.
    """
    last = call.flag("channels_last")
    wide = dequantized(x, x_scale, x_zero)
    pooled = average_pool(call, wide.movedim(-1, 1) if last else wide)
    scaled = (pooled.movedim(1, -1) if last else pooled) / y_scale
    return saturated(scaled if y_zero is None else scaled + y_zero.to(scaled.dtype), x.dtype)


@contrib_op("QLinearGlobalAveragePool")
def qlinear_global_average_pool(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
) -> torch.Tensor:
    """An integer sum over each plane, scaled once."""
    axes = list(range(1, x.ndim - 1)) if call.flag("channels_last") else list(range(2, x.ndim))
    count = 1
    for axis in axes:
        count = count * x.shape[axis]
    sums = centred(x, x_zero).sum(dim=axes, keepdim=True, dtype=torch.int32)
    return requantize(sums.to(x_scale.dtype) * (x_scale / (y_scale * count)), y_zero, x.dtype)


@contrib_op("QLinearReduceMean")
def qlinear_reduce_mean(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor | None,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    mean = dequantized(x, x_scale, x_zero).mean(dim=call.ints("axes"), keepdim=call.flag("keepdims", True))
    return quantize(mean, y_scale, y_zero, element_type(x.dtype))
