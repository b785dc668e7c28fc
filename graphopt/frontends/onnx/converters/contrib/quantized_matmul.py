"""Matrix products of 8-bit integers with float results or operands."""

from __future__ import annotations

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.converters.contrib.quantized_elementwise import centred
from graphopt.frontends.onnx.converters.quantization import (
    dynamic_quantize_linear,
    matmul_integer,
    requantize,
)


@contrib_op("MatMulIntegerToFloat")
def matmul_integer_to_float(
    call: Call,
    a: torch.Tensor,
    b: torch.Tensor,
    a_scale: torch.Tensor,
    b_scale: torch.Tensor,
    a_zero: torch.Tensor | None = None,
    b_zero: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """a [..., M, K] times b [K, N], 8-bit, summed in int32, then scaled; b_scale and b_zero 0-d or [N]."""
    sums = matmul_integer(call, a, b, a_zero, b_zero)
    y = sums.to(a_scale.dtype) * (a_scale * b_scale)
    return y if bias is None else y + bias


@contrib_op("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    call: Call,
    a: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """As MatMulIntegerToFloat, with a float ``a`` that is quantised to uint8 over its own range first."""
    quantized, scale, zero = dynamic_quantize_linear(call, a)
    return matmul_integer_to_float(call, quantized, b, scale, b_scale, zero, b_zero, bias)


@contrib_op("QGemm")
def quantized_gemm(
    call: Call,
    a: torch.Tensor,
    a_scale: torch.Tensor,
    a_zero: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor,
    c: torch.Tensor | None = None,
    y_scale: torch.Tensor | None = None,
    y_zero: torch.Tensor | None = None,
) -> torch.Tensor:
    """``alpha * A' @ B' + C`` with an int32 C in the sums' own scale; float, or 8-bit with a scale for Y."""
    left = centred(a, a_zero)
    # Zero points of single columns stand along the result's last axis.
    right = centred(b.t() if call.flag("transB") else b, b_zero)
    sums = torch.matmul(left.t() if call.flag("transA") else left, right)
    if c is not None:
        sums = sums + c
    factor = a_scale * b_scale * call.float("alpha", 1.0)
    if y_scale is None:
        return sums.to(a_scale.dtype) * factor
    return requantize(
        sums.to(a_scale.dtype) * (factor / y_scale), y_zero, a.dtype if y_zero is None else y_zero.dtype
    )
