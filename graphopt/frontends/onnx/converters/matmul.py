"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import op


@op("MatMul")
def matmul(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.matmul(a, b)


@op("Gemm", since=1, ignores=("broadcast",))
def gemm(call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    """``alpha * A' @ B' + beta * C``; the form of a linear layer becomes ``aten.linear``."""
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    if call.flag("transA"):
        a = a.t()
    transposed = call.flag("transB")
    plain_bias = c is None or (beta == 1.0 and c.ndim == 1 and c.shape[0] == b.shape[0 if transposed else 1])
    if transposed and alpha == 1.0 and plain_bias and a.dtype.is_floating_point:
        return F.linear(a, b, c)
    product = torch.matmul(a, b.t() if transposed else b)
    if alpha != 1.0:
        product = product * _scalar(alpha, a)
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else c * _scalar(beta, a))


def _scalar(value: float, like: torch.Tensor) -> float | int:
    return value if like.dtype.is_floating_point else int(value)


@op("Einsum", since=12)
def einsum(call: Call, *operands: torch.Tensor) -> torch.Tensor:
    return torch.einsum(call.str("equation").replace(" ", ""), *operands)


@op("Det", since=11)
def determinant(call: Call, x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.det(x)
