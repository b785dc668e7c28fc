"""Elementwise operators, softmax and Concat on 8-bit tensors with a scale and a zero point each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.converters.quantization import (
    dequantize_linear,
    quantize,
    quantize_linear,
)
from graphopt.frontends.onnx.dtypes import element_type

contrib_op("QuantizeLinear")(quantize_linear)
contrib_op("DequantizeLinear")(dequantize_linear)


def centred(x: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """``x - zero`` in int32."""
    wide = x.to(torch.int32)
    return wide if zero is None else wide - zero.to(torch.int32)


def dequantized(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    return centred(x, zero).to(scale.dtype) * scale


def multiply_add(x: torch.Tensor, factor: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
    """``x * factor + addend`` with one rounding, of 8-bit integers x, in the type of ``factor``.

    float64 holds the product exactly; ties between output values depend on it.
    """
    return (x.double() * factor.double() + addend.double()).to(factor.dtype)


def saturated(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Floats, zero point included, as 8-bit integers: halves to even, out of range to the ends."""
    info = torch.iinfo(dtype)
    return torch.clamp(torch.round(value), info.min, info.max).to(dtype)


@contrib_op("QLinearAdd")
def qlinear_add(
    call: Call,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero: torch.Tensor | None,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None,
    c_scale: torch.Tensor,
    c_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    """``a * ra + (b * rb + fixed)``, rounded once: onnxruntime's formula, with fused multiply-adds.

    ``ra`` and ``rb`` are the scales over the output's, and ``fixed`` is what the three zero points add.
    """
    left, right = a_scale / c_scale, b_scale / c_scale
    none = torch.zeros((), dtype=c_scale.dtype, device=a.device)
    zeros = [none if z is None else z.to(c_scale.dtype) for z in (a_zero, b_zero, c_zero)]
    fixed = zeros[2] - (left * zeros[0] + right * zeros[1])
    total = multiply_add(b, right, multiply_add(a, left, fixed))
    return saturated(total, a.dtype)


@contrib_op("QLinearMul")
def qlinear_mul(
    call: Call,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero: torch.Tensor | None,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None,
    c_scale: torch.Tensor,
    c_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    """``a * b``: an integer product, scaled and shifted, then rounded once."""
    product = centred(a, a_zero) * centred(b, b_zero)
    scaled = product.to(c_scale.dtype) * (a_scale * b_scale / c_scale)
    return saturated(scaled if c_zero is None else scaled + c_zero.to(scaled.dtype), a.dtype)


def _unary(op_type: str, function: Callable[[Call, torch.Tensor], torch.Tensor]) -> None:
    """``quantize(f(dequantize(x)))``; onnxruntime tabulates just this."""

    @contrib_op(op_type)
    def converter(
        call: Call,
        x: torch.Tensor,
        x_scale: torch.Tensor,
        x_zero: torch.Tensor | None,
        y_scale: torch.Tensor,
        y_zero: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return quantize(
            function(call, dequantized(x, x_scale, x_zero)), y_scale, y_zero, element_type(x.dtype)
        )


_unary("QLinearSigmoid", lambda call, x: torch.sigmoid(x))
_unary("QLinearLeakyRelu", lambda call, x: F.leaky_relu(x, call.float("alpha", 0.01)))


@contrib_op("QLinearSoftmax")
def qlinear_softmax(
    call: Call,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor | None,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    """Softmax over ``axis``; before opset 13 over all axes from it on, as one."""
    if call.int("opset") >= 13:
        return _integer_softmax(x, call.int("axis", -1), x_scale, y_scale, y_zero)
    axis = call.int("axis", 1) % x.ndim
    return _integer_softmax(x.flatten(axis), -1, x_scale, y_scale, y_zero).reshape(x.shape)


_LARGEST_EXPONENTIAL = 0x7FFFFF


def _integer_softmax(
    x: torch.Tensor,
    axis: int,
    x_scale: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor | None,
) -> torch.Tensor:
    """onnxruntime's kernel: a table of exponentials as integers, whose ratios are rounded.

    It multiplies by the whole part of ``1 / y_scale``: a scale of 1/255, which float32 rounds up, gives 254.
    Every result but the largest ones shows it.
    """
    size = x.shape[axis]
    unit = torch.sym_min((2**32 - 1) / size, float(_LARGEST_EXPONENTIAL))
    steps = torch.arange(-255, 1, device=x.device).double() * x_scale.double()
    table = torch.round(torch.exp(steps) * unit).to(torch.int64)
    wide = x.to(torch.int64)
    # The table is for a largest input of 255.
    terms = table[wide + (255 - wide.amax(dim=axis, keepdim=True))]
    total = terms.sum(dim=axis, keepdim=True)
    factor = (1.0 / y_scale).to(torch.int64)
    ratio = torch.div(
        terms * factor + torch.div(total, 2, rounding_mode="floor"), total, rounding_mode="floor"
    )
    shifted = ratio if y_zero is None else ratio + y_zero.to(torch.int64)
    info = torch.iinfo(x.dtype)
    return shifted.clamp(info.min, info.max).to(x.dtype)


@contrib_op("QLinearConcat")
def qlinear_concat(
    call: Call, y_scale: torch.Tensor, y_zero: torch.Tensor, *operands: torch.Tensor
) -> torch.Tensor:
    """Tensors one after the other, each with its scale and zero point, in the output's."""
    parts = [
        quantize(dequantized(x, scale, zero), y_scale, y_zero, element_type(y_zero.dtype))
        for x, scale, zero in zip(operands[::3], operands[1::3], operands[2::3], strict=True)
    ]
    return torch.cat(parts, dim=call.int("axis"))


@contrib_op("QLinearWhere")
def qlinear_where(
    call: Call,
    condition: torch.Tensor,
    x: torch.Tensor,
    x_scale: torch.Tensor,
    x_zero: torch.Tensor,
    y: torch.Tensor,
    y_scale: torch.Tensor,
    y_zero: torch.Tensor,
    z_scale: torch.Tensor,
    z_zero: torch.Tensor,
) -> Any:
    left = quantize(dequantized(x, x_scale, x_zero), z_scale, z_zero, element_type(x.dtype))
    right = quantize(dequantized(y, y_scale, y_zero), z_scale, z_zero, element_type(x.dtype))
    return torch.where(condition, left, right)
