"""Scalar TIR arithmetic with torch's semantics, for the bodies of kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import tirx

from graphopt.codegen.relax.dtypes import is_float

Scalar = Any
"""A TIR expression of one value."""


def constant(value: bool | int | float, dtype: str) -> Scalar:
    """A Python number as a TIR constant; NaN and infinities included, integers wrap."""
    if is_float(dtype):
        return tirx.FloatImm(dtype, float(value))
    if dtype == "bool":
        return tirx.IntImm("bool", int(bool(value)))
    return tirx.IntImm(dtype, int(np.array(int(value)).astype(dtype)))


def cast(value: Scalar, dtype: str) -> Scalar:
    """``value.to(dtype)``: floats truncate to integers, and anything but zero is true."""
    source = value.ty.dtype
    if source == dtype:
        return value
    if dtype == "bool":
        return tirx.NE(value, constant(0, source))
    if source == "bool" and is_float(dtype):
        return tirx.Cast(dtype, tirx.Cast("int32", value))
    if dtype in ("float16", "bfloat16") and source == "float64":
        return tirx.Cast(dtype, tirx.Cast("float32", value))
    return tirx.Cast(dtype, value)


def lowest(dtype: str) -> Scalar:
    """The identity of max: -inf, or the smallest integer."""
    if is_float(dtype):
        return tirx.FloatImm(dtype, float("-inf"))
    return constant(0 if dtype == "bool" else np.iinfo(dtype).min, dtype)


def highest(dtype: str) -> Scalar:
    """The identity of min: +inf, or the largest integer."""
    if is_float(dtype):
        return tirx.FloatImm(dtype, float("inf"))
    return constant(1 if dtype == "bool" else np.iinfo(dtype).max, dtype)


def is_nan(value: Scalar) -> Scalar:
    """Whether a floating-point value is NaN, by its bits.

    TVM's simplifier takes ``value != value`` for false, and its ``isnan`` lowers to that.
    """
    if value.ty.dtype == "bfloat16":  # TVM stores it as an integer of its own
        value = tirx.Cast("float32", value)
    bits, infinity, all_but_sign = _INFINITY_BITS[value.ty.dtype]
    magnitude = tirx.bitwise_and(tirx.reinterpret(bits, value), tirx.const(all_but_sign, bits))
    return magnitude > tirx.const(infinity, bits)


# Unsigned, since TVM widens signed integers to those of indices: twice the registers.
_INFINITY_BITS = {
    "float64": ("uint64", 0x7FF0000000000000, 0x7FFFFFFFFFFFFFFF),
    "float32": ("uint32", 0x7F800000, 0x7FFFFFFF),
    "float16": ("uint16", 0x7C00, 0x7FFF),
}


def _float_remainder(a: Scalar, b: Scalar) -> Scalar:
    """C's ``fmod``; TVM has no rule for its own intrinsic on CPUs."""
    dtype = a.ty.dtype
    return tirx.call_pure_extern(dtype, "fmod" if dtype == "float64" else "fmodf", a, b)


def differ(a: Scalar, b: Scalar) -> Scalar:
    """Exclusive or of two booleans; LLVM rejects the comparison that ``a != b`` becomes."""
    return tirx.NE(tirx.Cast("int8", a), tirx.Cast("int8", b))


def maximum(a: Scalar, b: Scalar) -> Scalar:
    """The larger of both; NaN if either is NaN."""
    if not is_float(a.ty.dtype):
        return tirx.max(a, b)
    return tirx.Select(tirx.Or(b > a, is_nan(b)), b, a)


def minimum(a: Scalar, b: Scalar) -> Scalar:
    """The smaller of both; NaN if either is NaN."""
    if not is_float(a.ty.dtype):
        return tirx.min(a, b)
    return tirx.Select(tirx.Or(b < a, is_nan(b)), b, a)


def floor_divide(a: Scalar, b: Scalar) -> Scalar:
    """Python's ``//``."""
    if not is_float(a.ty.dtype):
        return tirx.floordiv(a, b)
    # c10::div_floor_floating: the quotient of the exact remainder, not floor(a / b).
    remainder = _float_remainder(a, b)
    quotient = (a - remainder) / b
    zero, one = constant(0, a.ty.dtype), constant(1, a.ty.dtype)
    differs = tirx.And(tirx.NE(remainder, zero), differ(b < zero, remainder < zero))
    quotient = tirx.Select(differs, quotient - one, quotient)
    floored = tirx.floor(quotient)
    floored = tirx.Select(quotient - floored > constant(0.5, a.ty.dtype), floored + one, floored)
    floored = tirx.Select(tirx.EQ(quotient, zero), zero, floored)
    return tirx.Select(tirx.EQ(b, zero), a / b, floored)


def remainder(a: Scalar, b: Scalar) -> Scalar:
    """Python's ``%``: the sign of the divisor."""
    if not is_float(a.ty.dtype):
        return tirx.floormod(a, b)
    zero = constant(0, a.ty.dtype)
    rest = _float_remainder(a, b)
    return tirx.Select(tirx.And(tirx.NE(rest, zero), differ(b < zero, rest < zero)), rest + b, rest)


def truncate_divide(a: Scalar, b: Scalar) -> Scalar:
    """Division that rounds towards zero."""
    return tirx.truncdiv(a, b) if not is_float(a.ty.dtype) else tirx.trunc(a / b)


def truncated_remainder(a: Scalar, b: Scalar) -> Scalar:
    """C's remainder: the sign of the dividend."""
    return _float_remainder(a, b) if is_float(a.ty.dtype) else tirx.truncmod(a, b)


def is_infinite(value: Scalar) -> Scalar:
    if not is_float(value.ty.dtype):
        return constant(False, "bool")
    return tirx.EQ(tirx.abs(value), constant(float("inf"), value.ty.dtype))


def is_finite(value: Scalar) -> Scalar:
    if not is_float(value.ty.dtype):
        return constant(True, "bool")
    return tirx.Not(tirx.Or(is_nan(value), is_infinite(value)))


def exp(x: Scalar) -> Scalar:
    """exp, for float32 in a form that vectorises: TVM's is a call of C's function for each element.

    ``x = n ln 2 + r`` with ``ln 2`` in two parts (Cody and Waite, "Software Manual for the Elementary
    Functions", 1980, chapter 6); exp(r) is a Taylor polynomial, and ``2^n`` is put together in two
    halves from its bits, so that results overflow to infinity and underflow gradually as they should.
    """
    dtype = x.ty.dtype
    if dtype != "float32":
        return tirx.exp(x)
    low, high = constant(-104.0, dtype), constant(89.0, dtype)
    # Expressions are trees: whatever is named here is written out, and compiled, at each of its uses.
    inside = tirx.min(tirx.max(x, low), high)
    steps = tirx.floor(inside * constant(math.log2(math.e), dtype) + constant(0.5, dtype))
    r = inside - steps * constant(_LN2_HIGH, dtype) - steps * constant(_LN2_LOW, dtype)
    series = _polynomial(r, tuple(1.0 / math.factorial(k) for k in range(7, 1, -1)))
    half = tirx.floor(steps * constant(0.5, dtype))
    value = (r * r * series + r + constant(1, dtype)) * _power_of_two(half) * _power_of_two(steps - half)
    return tirx.Select(is_nan(x), x, value)


def exp_of_nonpositive(x: Scalar) -> Scalar:
    """:func:`exp` of a float32 that is not above zero, as in softmax: results below 2^-126 are zero."""
    dtype = "float32"
    low = constant(-87.0, dtype)
    inside = tirx.Select(x < low, low, x)  # NaN stays
    steps = tirx.floor(inside * constant(math.log2(math.e), dtype) + constant(0.5, dtype))
    r = inside - steps * constant(_LN2_HIGH, dtype) - steps * constant(_LN2_LOW, dtype)
    series = _polynomial(r, tuple(1.0 / math.factorial(k) for k in range(7, 1, -1)))
    value = (r * r * series + r + constant(1, dtype)) * _power_of_two(steps)
    return tirx.Select(x < low, constant(0, dtype), value)


_LN2_HIGH = 0.693359375  # few bits: multiples up to 150 are exact
_LN2_LOW = math.log(2.0) - _LN2_HIGH


def _power_of_two(n: Scalar) -> Scalar:
    """2^n for a whole float32 ``n`` from -126 to 127, by its bits: ``n + 127`` at bit 23.

    Unsigned, since TVM widens signed integers to those of indices.
    """
    bits = (n + constant(127, "float32")) * constant(2.0**23, "float32")
    return tirx.reinterpret("float32", tirx.Cast("uint32", bits))


def erf(x: Scalar) -> Scalar:
    """erf, for float32 in a form that vectorises, to within two units in the last place.

    Up to one ``x P(x^2)``, beyond it ``1 - exp(Q(|x|))``; P and Q are Chebyshev interpolations of
    ``erf(x) / x`` over [0, 1] in ``x^2`` and of ``log erfc`` over [1, 4], in powers.
    """
    dtype = x.ty.dtype
    if dtype != "float32":
        return tirx.erf(x)
    magnitude, one, most = tirx.abs(x), constant(1, dtype), constant(4, dtype)
    near = x + x * _polynomial(x * x, _ERF_NEAR)
    far = one - exp(_polynomial(tirx.min(magnitude, most), _LOG_ERFC))
    far = tirx.Select(x < constant(0, dtype), -far, far)
    return tirx.Select(magnitude > one, far, near)


_ERF_NEAR = (
    7.88249712e-05, -8.01885499e-04, 5.18931194e-03, -2.68543288e-02, 1.12835975e-01, -3.76126269e-01,
    1.28379167e-01,
)  # fmt: skip
_LOG_ERFC = (
    1.61406160e-06, -4.55906224e-05, 5.92769537e-04, -4.74022234e-03, 2.63647174e-02, -1.09978245e-01,
    -6.31937094e-01, -1.13016668, 3.03212969e-04,
)  # fmt: skip


def normal_cdf(x: Scalar) -> Scalar:
    """(1 + erf(x / sqrt 2)) / 2, for float32 without the cancellation of that form below zero.

    ``2^T(|x|)`` is the tail; T interpolates its logarithm over [0, 5], falls further beyond, and is -1 at
    zero.  Errors are within 1.3e-7 of one, and as much of ``x`` times it where that is small.
    """
    dtype = x.ty.dtype
    one, zero = constant(1, dtype), constant(0, dtype)
    if dtype != "float32":
        return constant(0.5, dtype) * (one + erf(x * constant(math.sqrt(0.5), dtype)))
    # Farther out the tail is zero in float32, and its polynomial leaves the range of exponents.
    magnitude, most = tirx.abs(x), constant(10, dtype)
    tail = _exp2(_polynomial(tirx.min(magnitude, most), _LOG2_NORMAL_TAIL))
    tail = tirx.Select(magnitude > most, zero, tail)
    return tirx.abs(tirx.Select(x < zero, zero, one) - tail)


_LOG2_NORMAL_TAIL = (
    -1.2096883508861715e-06, 1.9632449257438537e-05, -9.187080147304819e-05, -3.632095358782189e-04,
    7.352044978330590e-03, -5.268604690792737e-02, -4.591514520413088e-01, -1.151110635553878,
    -1.0,
)  # fmt: skip


def _exp2(x: Scalar) -> Scalar:
    """2^x of a float32 from -126 to 126, in the fewest steps.

    A whole number ``n`` added to ``1.5 * 2^23`` stands in the lowest bits, from where it is moved to those of
    an exponent.  The polynomial interpolates 2^r at Chebyshev's points of [-1/2, 1/2], to 2e-9.
    """
    n = tirx.floor(x + constant(0.5, "float32"))
    bits = tirx.reinterpret("uint32", n + constant(1.5 * 2.0**23, "float32"))
    power = bits * constant(2**23, "uint32") + constant(127 * 2**23, "uint32")
    return _polynomial(x - n, _EXP2) * tirx.reinterpret("float32", power)


_EXP2 = (
    1.5461444675062542e-04, 1.3400428177394435e-03, 9.618056678610138e-03, 5.550327226671061e-02,
    2.402265092228803e-01, 6.931472067028320e-01, 1.0,
)  # fmt: skip


def expm1(x: Scalar) -> Scalar:
    """exp(x) - 1 without cancellation (Kahan: the rounding errors of u - 1 and log u cancel)."""
    one = constant(1, x.ty.dtype)
    u = exp(x)
    kahan = (u - one) * x / tirx.log(u)
    plain = u - one
    small = tirx.abs(x) < constant(1, x.ty.dtype)
    return tirx.Select(tirx.EQ(u, one), x, tirx.Select(small, kahan, plain))


def tanh(x: Scalar) -> Scalar:
    """tanh with small relative error everywhere; TVM's own form loses every digit near zero.

    The split and the coefficients are those of the Cephes library (``tanhf.c``, ``tanh.c``).
    """
    dtype = x.ty.dtype
    one, two = constant(1, dtype), constant(2, dtype)
    z = x * x
    if dtype == "float64":
        numerator = _polynomial(
            z, (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
        )
        denominator = _polynomial(
            z, (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)
        )
        small = x + x * z * (numerator / denominator)
    else:
        series = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
        small = x + x * z * _polynomial(z, series)
    large = one - two / (exp(two * tirx.abs(x)) + one)
    large = tirx.Select(x < constant(0, dtype), -large, large)
    return tirx.Select(tirx.abs(x) > constant(0.625, dtype), large, small)


def _polynomial(x: Scalar, coefficients: tuple[float, ...]) -> Scalar:
    """Horner's rule, highest power first."""
    value = constant(coefficients[0], x.ty.dtype)
    for coefficient in coefficients[1:]:
        value = value * x + constant(coefficient, x.ty.dtype)
    return value


def atanh(x: Scalar) -> Scalar:
    """atanh by log1p, exact in the limit of small arguments."""
    dtype = x.ty.dtype
    half, two, one = constant(0.5, dtype), constant(2, dtype), constant(1, dtype)
    magnitude = tirx.abs(x)
    value = half * tirx.log1p(two * magnitude / (one - magnitude))
    return tirx.Select(x < constant(0, dtype), -value, value)


def erfc(x: Scalar) -> Scalar:
    """1 - erf(x), by C's function: the difference itself has no digits where erf is near one."""
    dtype = x.ty.dtype
    return tirx.call_pure_extern(dtype, "erfc" if dtype == "float64" else "erfcf", x)


def sigmoid(x: Scalar) -> Scalar:
    one = constant(1, x.ty.dtype)
    return one / (one + exp(-x))


def logaddexp(a: Scalar, b: Scalar) -> Scalar:
    """log(exp(a) + exp(b)) without overflow; equal infinities stay."""
    high, low = tirx.max(a, b), tirx.min(a, b)
    value = high + tirx.log1p(exp(low - high))
    return tirx.Select(tirx.EQ(a, b), a + constant(np.log(2.0), a.ty.dtype), value)


def constant_power(x: Scalar, exponent: int) -> Scalar:
    """An integer to a known power, by squaring; wraps as torch's does."""
    result = constant(1, x.ty.dtype)
    while exponent:
        if exponent & 1:
            result = result * x
        exponent >>= 1
        if exponent:
            x = x * x
    return result


def integer_power(x: Scalar, exponent: Scalar) -> Scalar:
    """An integer to an integer power: wraps, and negative powers give 0, 1 or -1, as in torch."""
    dtype = x.ty.dtype
    zero, one = constant(0, dtype), constant(1, dtype)
    result, base, rest = one, x, exponent
    for _ in range(6):  # exponents up to 63: the base wraps to zero or cycles beyond
        odd = tirx.NE(tirx.bitwise_and(rest, one), zero)
        result = tirx.Select(odd, result * base, result)
        base = base * base
        rest = rest >> one
    if dtype.startswith("uint"):
        return result
    minus = constant(-1, dtype)
    parity = tirx.EQ(tirx.bitwise_and(exponent, one), zero)
    negative = tirx.Select(
        tirx.EQ(x, one), one, tirx.Select(tirx.EQ(x, minus), tirx.Select(parity, one, minus), zero)
    )
    return tirx.Select(exponent < zero, negative, result)


def left_shift(a: Scalar, b: Scalar) -> Scalar:
    """a << b; zero where the shift reaches the width or is negative, as in torch."""
    dtype = a.ty.dtype
    width = np.dtype(dtype).itemsize * 8
    safe, valid = _shift_amount(b, width)
    return tirx.Select(
        valid, tirx.Cast(dtype, tirx.Cast("int64", a) << tirx.Cast("int64", safe)), constant(0, dtype)
    )


def right_shift(a: Scalar, b: Scalar) -> Scalar:
    """a >> b with the sign kept; shifts out of range leave the sign alone (0 or -1), as in torch."""
    dtype = a.ty.dtype
    width = np.dtype(dtype).itemsize * 8
    safe, valid = _shift_amount(b, width)
    last = constant(width - 1, dtype)
    if dtype.startswith("uint"):
        return tirx.Select(valid, a >> safe, constant(0, dtype))
    return tirx.Select(valid, a >> safe, a >> last)


def _shift_amount(b: Scalar, width: int) -> tuple[Scalar, Scalar]:
    dtype = b.ty.dtype
    inside = b < constant(width, dtype)
    if not dtype.startswith("uint"):
        inside = tirx.And(inside, b >= constant(0, dtype))
    return tirx.Select(inside, b, constant(0, dtype)), inside
