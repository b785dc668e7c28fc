"""Operators on integers in ONNX, whose own are defined, or have kernels in onnxruntime, for floats only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphopt.exporters.onnx.nodes import OnnxValue, ints, operators


def is_integer(value: OnnxValue) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def int_mm(a: OnnxValue, b: OnnxValue) -> OnnxValue:
    """``[M, K]`` int8 times ``[K, N]`` int8 in int32; torch.onnx has no translation."""
    return operators(18).MatMulInteger(a, b)


def rounding(op_type: str) -> Callable[[OnnxValue], OnnxValue]:
    """Floor and Ceil; an integer is its own."""

    def translation(x: OnnxValue) -> OnnxValue:
        op = operators(18)
        return op.Identity(x) if is_integer(x) else getattr(op, op_type)(x)

    return translation


def trunc(x: OnnxValue) -> OnnxValue:
    op = operators(18)
    if is_integer(x):
        return op.Identity(x)
    return op.Where(op.Less(x, _like(x, 0)), op.Ceil(x), op.Floor(x))


def isnan(x: OnnxValue) -> OnnxValue:
    op = operators(18)
    return op.IsNaN(x) if x.dtype.is_floating_point() else op.Not(op.Equal(x, x))


def isfinite(x: OnnxValue) -> OnnxValue:
    """A number less itself is 0, unless it is infinite or NaN."""
    op = operators(18)
    difference = op.Sub(x, x)
    return op.Equal(difference, difference)


def truth(op_type: str) -> Callable[..., OnnxValue]:
    """``any`` (ReduceMax) and ``all`` (ReduceMin): booleans, of uint8 in uint8."""
    import onnx_ir

    def translation(x: OnnxValue, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> OnnxValue:
        op = operators(18)
        axes = ([dim] if isinstance(dim, int) else list(dim or ())) if len(x.shape) else []
        value = x if x.dtype == onnx_ir.DataType.BOOL else op.Cast(x, to=onnx_ir.DataType.BOOL)
        value = op.Cast(value, to=onnx_ir.DataType.UINT8)
        value = getattr(op, op_type)(value, ints(*axes) if axes else None, keepdims=int(keepdim))
        if x.dtype == onnx_ir.DataType.UINT8:
            return value
        return op.Cast(value, to=onnx_ir.DataType.BOOL)

    return translation


def relu(x: OnnxValue) -> OnnxValue:
    op = operators(18)
    return op.Max(x, _like(x, 0)) if is_integer(x) else op.Relu(x)


def power(x: OnnxValue, exponent: int) -> OnnxValue:
    """Products that wrap, as torch has it; onnxruntime's Pow of integers goes by way of floats.

    By squaring: Knuth, The Art of Computer Programming, 4.6.3.
    """
    op = operators(18)
    if exponent == 0:
        return op.CastLike(op.Equal(x, x), x)
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else op.Mul(result, x)
        exponent >>= 1
        x = op.Mul(x, x) if exponent else x
    return op.Identity(result)


def linear(x: OnnxValue, weight: OnnxValue, bias: OnnxValue = None) -> OnnxValue:
    """``x @ weight.T + bias``: Gemm of float matrices, otherwise MatMul, which has integer kernels."""
    op = operators(18)
    if not is_integer(x) and len(x.shape) == 2 and len(weight.shape) == 2:
        return op.Gemm(x, weight, bias, transB=1)
    product = op.MatMul(x, op.Transpose(weight, perm=[1, 0]) if len(weight.shape) == 2 else weight)
    return product if bias is None else op.Add(product, bias)


def addmm(c: OnnxValue, a: OnnxValue, b: OnnxValue, *, beta: float = 1, alpha: float = 1) -> OnnxValue:
    """``beta * c + alpha * a @ b``."""
    op = operators(18)
    if not is_integer(a):
        return op.Gemm(a, b, c, alpha=float(alpha), beta=float(beta))
    product = op.MatMul(a, b)
    product = product if alpha == 1 else op.Mul(product, _like(a, alpha))
    return op.Add(product, c if beta == 1 else op.Mul(c, _like(c, beta)))


def cat(tensors: Sequence[OnnxValue], dim: int = 0) -> OnnxValue:
    """In the type that torch promotes to; a tensor of shape [0] fits everywhere."""
    op = operators(18)
    whole = [t for t in tensors if list(t.shape) != [0]] or [tensors[0]]
    dtype = _promoted(tensors)
    parts = [t if t.dtype == dtype else op.Cast(t, to=dtype) for t in whole]
    return op.Concat(*parts, axis=dim) if len(parts) > 1 else op.Identity(parts[0])


def _promoted(tensors: Sequence[OnnxValue]) -> Any:
    """torch's promotion of dimensioned tensors: the higher category, within it the wider type."""
    import onnx_ir
    import torch

    dtypes = [onnx_ir.tensor_adapters.to_torch_dtype(t.dtype) for t in tensors]
    return onnx_ir.tensor_adapters.from_torch_dtype(functools.reduce(torch.promote_types, dtypes))


def _like(x: OnnxValue, number: float) -> OnnxValue:
    import numpy as np
    import onnx_ir

    return operators(18).Constant(value=onnx_ir.tensor(np.array(number, dtype=x.dtype.numpy())))
