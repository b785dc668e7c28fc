"""Elementwise functions and softmax in ONNX: what torch.onnx 2.13 lacks, drops operands of, or rounds badly.

ONNX has neither ``log1p`` nor ``expm1``.  ``log(1 + x)`` loses all digits of a small x; the quotients
here keep them (Higham, Accuracy and Stability of Numerical Algorithms, §1.14).
"""

from __future__ import annotations

import math

from graphopt.errors import InputError
from graphopt.exporters.onnx.integers import power
from graphopt.exporters.onnx.nodes import OnnxValue, is_double, operators, scalar


def log1p(x: OnnxValue) -> OnnxValue:
    """``x * log(u) / (u - 1)`` with ``u = 1 + x``; x where u rounds to 1, log(u) where it is infinite."""
    return _log1p(floating(x), x)


def _log1p(x: OnnxValue, like: OnnxValue) -> OnnxValue:
    op = operators(18)
    one = _number(1.0, like)
    u = op.Add(one, x)
    log = op.Log(u)
    quotient = op.Div(op.Mul(x, log), op.Sub(u, one))
    exact = op.Where(op.Equal(u, one), x, quotient)
    return op.Where(op.Equal(u, _number(math.inf, like)), log, exact)


def expm1(x: OnnxValue) -> OnnxValue:
    """``(u - 1) * x / log(u)`` with ``u = exp(x)``; x where u rounds to 1, u - 1 beyond 1."""
    return _expm1(floating(x), x)


def _expm1(x: OnnxValue, like: OnnxValue) -> OnnxValue:
    op = operators(18)
    one = _number(1.0, like)
    u = op.Exp(x)
    less = op.Sub(u, one)
    # Beyond these the quotient is 0 / -inf or inf / inf, and u - 1 is exact.
    plain = op.Greater(op.Abs(x), one)
    return op.Where(plain, less, op.Where(op.Equal(u, one), x, op.Div(op.Mul(less, x), op.Log(u))))


def log_sigmoid(x: OnnxValue) -> OnnxValue:
    """``min(x, 0) - log1p(exp(-|x|))``."""
    op = operators(18)
    small = op.Exp(op.Neg(op.Abs(x)))
    return op.Sub(op.Min(x, scalar(0.0, x)), _log1p(small, x))


def elu(x: OnnxValue, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> OnnxValue:
    """torch.onnx drops ``scale`` and ``input_scale``."""
    op = operators(18)
    if scale == input_scale == 1.0 and not is_double(x):
        return op.Elu(x, alpha=float(alpha))
    negative = op.Mul(_expm1(op.Mul(x, scalar(input_scale, x)), x), scalar(alpha * scale, x))
    return op.Where(op.Greater(x, scalar(0.0, x)), op.Mul(x, scalar(scale, x)), negative)


def celu(x: OnnxValue, alpha: float = 1.0) -> OnnxValue:
    """Celu is of float32: half precision is computed in it, float64 without the node."""
    import onnx_ir

    op = operators(18)
    if is_double(x):
        return elu(x, alpha, 1.0, 1.0 / alpha)
    if x.dtype == onnx_ir.DataType.FLOAT:
        return op.Celu(x, alpha=float(alpha))
    return op.Cast(op.Celu(op.Cast(x, to=onnx_ir.DataType.FLOAT), alpha=float(alpha)), to=x.dtype)


def log2(x: OnnxValue) -> OnnxValue:
    return _log(x, 2.0)


def log10(x: OnnxValue) -> OnnxValue:
    return _log(x, 10.0)


def _log(x: OnnxValue, base: float) -> OnnxValue:
    """The base's logarithm in the operand's type; torch.onnx takes float32's."""
    op = operators(18)
    return op.Div(op.Log(floating(x)), _number(math.log(base), x))


def rrelu(
    x: OnnxValue, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: None = None
) -> OnnxValue:
    """Out of training the slope is the middle of its range."""
    if training:
        raise InputError("rrelu in training draws its slopes and has no ONNX form", code="GO-3006")
    return leaky_relu(x, (lower + upper) / 2)


def leaky_relu(x: OnnxValue, negative_slope: float = 0.01) -> OnnxValue:
    op = operators(18)
    if not is_double(x):
        return op.LeakyRelu(x, alpha=float(negative_slope))
    return op.Where(op.Less(x, scalar(0.0, x)), op.Mul(x, scalar(negative_slope, x)), x)


def addcmul(x: OnnxValue, a: OnnxValue, b: OnnxValue, *, value: float = 1.0) -> OnnxValue:
    """``x + value * a * b``; torch.onnx rounds the number to float32."""
    op = operators(18)
    return op.Add(x, op.Mul(op.Mul(scalar(value, x), a), b))


def addcdiv(x: OnnxValue, a: OnnxValue, b: OnnxValue, *, value: float = 1.0) -> OnnxValue:
    op = operators(18)
    return op.Add(x, op.Mul(scalar(value, x), op.Div(a, b)))


def hardtanh(x: OnnxValue, min_val: float = -1.0, max_val: float = 1.0) -> OnnxValue:
    return operators(18).Clip(x, scalar(min_val, x), scalar(max_val, x))


def hypot(a: OnnxValue, b: OnnxValue) -> OnnxValue:
    """``large * sqrt(1 + (small / large)^2)``, which does not overflow."""
    op = operators(18)
    a, b = op.Abs(a), op.Abs(b)
    large, small = op.Max(a, b), op.Min(a, b)
    like = a if a.dtype is not None else large
    ratio = op.Div(small, large)
    y = op.Mul(large, op.Sqrt(op.Add(op.Mul(ratio, ratio), op.CastLike(op.Constant(value_float=1.0), like))))
    # 0 / 0 and inf / inf: there the larger one is the result.
    equal_ends = op.And(op.Equal(large, small), op.IsNaN(ratio))
    return op.Where(equal_ends, large, y)


def remainder(x: OnnxValue, y: OnnxValue) -> OnnxValue:
    """With the divisor's sign: C's remainder, and the divisor added where the signs differ.

    ``x - floor(x / y) * y``, which torch.onnx writes, is NaN for an infinite divisor and inexact for others.
    """
    op = operators(18)
    if not x.dtype.is_floating_point():
        return op.Mod(x, y)
    zero = scalar(0.0, x)
    rest = op.Mod(x, y, fmod=1)
    signs_differ = op.Xor(op.Less(rest, zero), op.Less(y, zero))
    return op.Where(op.And(op.Not(op.Equal(rest, zero)), signs_differ), op.Add(rest, y), rest)


def remainder_scalar(x: OnnxValue, y: float) -> OnnxValue:
    return remainder(x, scalar(y, x))


def remainder_of_scalar(x: float, y: OnnxValue) -> OnnxValue:
    return remainder(scalar(x, y), y)


def fmod(x: OnnxValue, y: OnnxValue) -> OnnxValue:
    """With the dividend's sign: C's.  onnxruntime computes it of integers by way of floats, so not that."""
    op = operators(18)
    if x.dtype.is_floating_point():
        return op.Mod(x, y, fmod=1)
    rest = op.Mod(x, y)
    if not x.dtype.is_signed():
        return rest
    zero = scalar(0, x)
    signs_differ = op.Xor(op.Less(x, zero), op.Less(rest, zero))
    return op.Where(op.And(op.Not(op.Equal(rest, zero)), signs_differ), op.Sub(rest, y), rest)


def fmod_scalar(x: OnnxValue, y: float) -> OnnxValue:
    return fmod(x, scalar(y, x))


def pow_tensor(x: OnnxValue, exponent: OnnxValue) -> OnnxValue:
    """A float to the power of integers: in the float's type, as torch promotes them."""
    op = operators(18)
    if x.dtype.is_floating_point() and exponent.dtype != x.dtype and not exponent.dtype.is_floating_point():
        exponent = op.Cast(exponent, to=x.dtype)
    return op.Pow(x, exponent)


def pow_scalar(x: OnnxValue, exponent: float) -> OnnxValue:
    """Of floats one Pow, of integers products; booleans count as int64."""
    import onnx_ir

    op = operators(18)
    if x.dtype.is_floating_point():
        return op.Pow(x, scalar(exponent, x))
    if isinstance(exponent, float):
        return op.Pow(floating(x), op.Constant(value_float=exponent))
    whole = op.Cast(x, to=onnx_ir.DataType.INT64) if x.dtype == onnx_ir.DataType.BOOL else x
    return power(whole, exponent)


def square(x: OnnxValue) -> OnnxValue:
    return pow_scalar(x, 2)


def signbit(x: OnnxValue) -> OnnxValue:
    """Whether the sign is minus; of -0.0 too, whose reciprocal is minus infinity."""
    op = operators(18)
    zero, one = scalar(0.0, x), scalar(1.0, x)
    negative_zero = op.And(op.Equal(x, zero), op.Less(op.Div(one, x), zero))
    return op.Or(op.Less(x, zero), negative_zero)


def copysign(a: OnnxValue, b: OnnxValue) -> OnnxValue:
    op = operators(18)
    size = op.Abs(a)
    return op.Where(signbit(b), op.Neg(size), size)


def copysign_scalar(a: OnnxValue, b: float) -> OnnxValue:
    op = operators(18)
    size = op.Abs(a)
    return op.Neg(size) if math.copysign(1.0, b) < 0 else size


def softmax(x: OnnxValue, dim: int, dtype: int | None = None) -> OnnxValue:
    """``dtype``, an ONNX element type, is what x is converted to first."""
    op = operators(18)
    return op.Softmax(x if dtype is None else op.Cast(x, to=dtype), axis=dim)


def log_softmax(x: OnnxValue, dim: int, dtype: int | None = None) -> OnnxValue:
    op = operators(18)
    return op.LogSoftmax(x if dtype is None else op.Cast(x, to=dtype), axis=dim)


def floating(x: OnnxValue) -> OnnxValue:
    """Integers in float32, as torch computes such functions of them."""
    import onnx_ir

    if x.dtype.is_floating_point():
        return x
    return operators(18).Cast(x, to=onnx_ir.DataType.FLOAT)


def _number(number: float, like: OnnxValue) -> OnnxValue:
    """A 0-d constant in the type in which a function of ``like`` is computed."""
    import numpy as np
    import onnx_ir

    dtype = like.dtype.numpy() if like.dtype.is_floating_point() else np.dtype(np.float32)
    return operators(18).Constant(value=onnx_ir.tensor(np.array(number, dtype=dtype)))
