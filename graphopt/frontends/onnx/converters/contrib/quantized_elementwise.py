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
    requantize,
)

contrib_op("QuantizeLinear")(quantize_linear)
contrib_op("DequantizeLinear")(dequantize_linear)


def centred(x: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    """``x - zero`` in int32."""
    wide = x.to(torch.int32)
    return wide if zero is None else wide - zero.to(torch.int32)


def dequantized(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None) -> torch.Tensor:
    return centred(x, zero).to(scale.dtype) * scale


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
    """``a + b``; onnxruntime divides the scales by the output's first, and so does this."""
    left = centred(a, a_zero).to(a_scale.dtype) * (a_scale / c_scale)
    right = centred(b, b_zero).to(b_scale.dtype) * (b_scale / c_scale)
    return requantize(left + right, c_zero, a.dtype)


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
    """``a * b``: an integer product, scaled once."""
    product = centred(a, a_zero) * centred(b, b_zero)
    return requantize(product.to(c_scale.dtype) * (a_scale * b_scale / c_scale), c_zero, a.dtype)


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
        return quantize(function(call, dequantized(x, x_scale, x_zero)), y_scale, y_zero, x.dtype)


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
    # Shifting all inputs by one zero point leaves softmax as it is.
    wide = dequantized(x, x_scale, None)
    if call.int("opset") < 13:
        axis = call.int("axis", 1) % x.ndim
        y = torch.softmax(wide.flatten(axis), dim=-1).reshape(x.shape)
    else:
        y = torch.softmax(wide, dim=call.int("axis", -1))
    return quantize(y, y_scale, y_zero, x.dtype)


@contrib_op("QLinearConcat")
def qlinear_concat(
    call: Call, y_scale: torch.Tensor, y_zero: torch.Tensor, *operands: torch.Tensor
) -> torch.Tensor:
    """Tensors one after the other, each with its scale and zero point, in the output's."""
    parts = [
        quantize(dequantized(x, scale, zero), y_scale, y_zero, y_zero.dtype)
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
    left = quantize(dequantized(x, x_scale, x_zero), z_scale, z_zero, x.dtype)
    right = quantize(dequantized(y, y_scale, y_zero), z_scale, z_zero, x.dtype)
    return torch.where(condition, left, right)
