"""Quantisation: linear Q/DQ and integer products."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.cast import cast_to
from graphopt.frontends.onnx.converters.conv import convolve
from graphopt.frontends.onnx.dtypes import element_type, torch_dtype
from graphopt.frontends.onnx.packed_types import PACKED, Packed, to_packed
from graphopt.frontends.onnx.registry import op

_LAYOUT = ("axis", "block_size")
"""What a scale of one number has no use for."""


def _along_axis(call: Call, x: torch.Tensor, parameter: torch.Tensor | None) -> torch.Tensor | None:
    """A scale or zero point, shaped to broadcast against X: whole, per axis or per block."""
    if parameter is None or parameter.ndim == 0:
        return parameter
    axis = call.int("axis", 1)
    if parameter.ndim == 1 and parameter.numel() == 1:
        return parameter.reshape(())
    axis = axis % x.ndim
    block = call.int("block_size", 0)
    if block:
        spread = parameter.repeat_interleave(block, dim=axis)
        return spread.narrow(axis, 0, x.shape[axis])
    shape = [1] * x.ndim
    shape[axis] = parameter.shape[0]
    return parameter.reshape(shape)


def quantize(
    x: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None,
    target: ir.DataType,
    saturate: bool = True,
) -> torch.Tensor:
    """``saturate(round(x / scale) + zero)``, halves to even."""
    scaled = x / scale
    dtype = torch_dtype(target, "the quantised type")
    packed = PACKED.get(target)
    if dtype.is_floating_point:
        return to_packed(scaled, packed) if packed is not None else cast_to(scaled, dtype, saturate)
    return requantize(scaled, zero, dtype, packed)


@op("QuantizeLinear", since=10, ignores=_LAYOUT)
def quantize_linear(
    call: Call, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None
) -> torch.Tensor:
    target = call.packed_type(2)
    if target is None:
        declared = call.element_type("output_dtype") or ir.DataType.UINT8
        target = declared if zero is None else element_type(zero.dtype)
    if target in PACKED:
        call.packed_output = target
    source = x.float() if not x.dtype.is_floating_point else x
    scale_ = _along_axis(call, x, scale)
    assert scale_ is not None
    return quantize(
        source, scale_.to(source.dtype), _along_axis(call, x, zero), target, call.flag("saturate", True)
    )


@op("DequantizeLinear", since=10, ignores=_LAYOUT)
def dequantize_linear(
    call: Call, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None
) -> torch.Tensor:
    factor = _along_axis(call, x, scale)
    assert factor is not None
    offset = _along_axis(call, x, zero)
    dtype = call.dtype("output_dtype", scale.dtype)
    if x.dtype == torch.int32 and offset is None:
        return (x.to(factor.dtype) * factor).to(dtype)
    # Integers are subtracted as integers: float would round large int32.
    wide = x.to(factor.dtype) if x.dtype.is_floating_point else x.to(torch.int32)
    if offset is not None:
        wide = wide - offset.to(wide.dtype)
    return (wide.to(factor.dtype) * factor).to(dtype)


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(call: Call, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """uint8 with a scale and zero point from the data, whose range is made to hold 0."""
    axes = list(range(x.ndim))
    low = torch.clamp(x.amin(axes), max=0.0)
    high = torch.clamp(x.amax(axes), min=0.0)
    scale = (high - low) / 255.0
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / safe), 0, 255).to(torch.uint8)
    return quantize(x, safe, zero, ir.DataType.UINT8), scale, zero


def _centred(x: torch.Tensor, zero: torch.Tensor | None, axis_shape: list[int]) -> torch.Tensor:
    wide = x.to(torch.int32)
    if zero is None:
        return wide
    return wide - (zero.to(torch.int32).reshape(axis_shape) if zero.ndim else zero.to(torch.int32))


@op("MatMulInteger", since=10)
def matmul_integer(
    call: Call,
    a: torch.Tensor,
    b: torch.Tensor,
    a_zero: torch.Tensor | None = None,
    b_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    rows = [-1, 1] if a_zero is not None and a_zero.numel() > 1 else [1]
    columns = [1, -1] if b_zero is not None and b_zero.numel() > 1 else [1]
    return torch.matmul(_centred(a, a_zero, rows), _centred(b, b_zero, columns))


@op("ConvInteger", since=10, ignores=("kernel_shape", "pads"))
def conv_integer(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    x_zero: torch.Tensor | None = None,
    weight_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    return _integer_convolution(call, x, weight, x_zero, weight_zero)


def _integer_convolution(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    x_zero: torch.Tensor | None,
    weight_zero: torch.Tensor | None,
) -> torch.Tensor:
    """In int32, as the operator says: no detour by floats, which code generation and passes would keep."""
    per_channel = (
        [-1, *[1] * (weight.ndim - 1)] if weight_zero is not None and weight_zero.numel() > 1 else [1]
    )
    return convolve(call, _centred(x, x_zero, [1]), _centred(weight, weight_zero, per_channel), None)


def requantize(
    value: torch.Tensor, zero: torch.Tensor | None, dtype: torch.dtype, packed: Packed | None = None
) -> torch.Tensor:
    """Floats in units of the output's scale as integers: ``saturate(round(value) + zero)``."""
    rounded = torch.round(value)
    if zero is not None:
        rounded = rounded + zero.to(rounded.dtype)
    info = torch.iinfo(dtype)
    low, high = (info.min, info.max) if packed is None else (packed.low, packed.high)
    return torch.clamp(rounded, low, high).to(dtype)


@op("QLinearMatMul", since=10)
def qlinear_matmul(
    call: Call,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
) -> torch.Tensor:
    sums = matmul_integer(call, a, b, a_zero, b_zero)
    rows = a_scale.reshape(-1, 1) if a_scale.numel() > 1 else a_scale
    # One factor, divided first: so the ONNX reference and onnxruntime do it, and ties depend on it.
    factor = rows.float() * b_scale.float() / y_scale.float()
    return requantize(sums.to(torch.float32) * factor, y_zero, y_zero.dtype)


@op("QLinearConv", since=10, ignores=("kernel_shape", "pads"))
def qlinear_conv(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor,
    weight: torch.Tensor,
    w_scale: torch.Tensor,
    w_zero: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
    bias: Any = None,
) -> torch.Tensor:
    sums = _integer_convolution(call, x, weight, x_zero, w_zero)
    channel = [1, -1, *[1] * (x.ndim - 2)]
    if bias is not None:
        sums = sums + bias.reshape(channel)
    factor = x_scale * (w_scale.reshape(channel) if w_scale.numel() > 1 else w_scale) / y_scale
    return requantize(sums.to(torch.float32) * factor, y_zero, y_zero.dtype)
