"""Elementwise arithmetic, comparison, logic and casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, Unsupported, dtype_of
from graphopt.codegen.relax.dtypes import ALL, BOOL, FLOATS, INTEGERS, NUMBERS, arithmetic_dtype, is_float
from graphopt.codegen.relax.elementwise import elementwise, is_tensor, promoted, scalar
from graphopt.codegen.relax.registry import converter, register_converter

aten = torch.ops.aten
Scalar = s.Scalar


# -- unary -----------------------------------------------------------------------------------------


def _one(like: Scalar, value: float = 1.0) -> Scalar:
    return s.constant(value, like.ty.dtype)


def _unary(
    target: torch._ops.OpOverload, function: Callable[[Scalar], Scalar], dtypes: frozenset[Any]
) -> None:
    def convert(context: Context, x: Expr) -> Expr:
        # Functions into the reals take integers as float32; the others stay in the operand's type.
        compute = context.dtype if is_float(context.dtype) else dtype_of(x)
        return elementwise(context, _name(target), [x], function, compute=arithmetic_dtype(compute))

    register_converter(target, convert, dtypes=dtypes)


def _name(target: torch._ops.OpOverload) -> str:
    return target._schema.name.split("::")[1].strip("_")


def _sign(x: Scalar) -> Scalar:
    zero, one, minus = _one(x, 0), _one(x, 1), _one(x, -1 if not x.ty.dtype.startswith("uint") else 0)
    result = tirx.Select(x > zero, one, tirx.Select(x < zero, minus, zero))
    return tirx.Select(s.is_nan(x), x, result) if is_float(x.ty.dtype) else result


def _integers_stay(function: Callable[[Scalar], Scalar]) -> Callable[[Scalar], Scalar]:
    return lambda x: function(x) if is_float(x.ty.dtype) else x


def _relu(x: Scalar) -> Scalar:
    return tirx.Select(x < _one(x, 0), _one(x, 0), x)


_UNARY_REAL: dict[torch._ops.OpOverload, Callable[[Scalar], Scalar]] = {
    aten.exp.default: s.exp,
    aten.exp2.default: tirx.exp2,
    aten.expm1.default: s.expm1,
    aten.log.default: tirx.log,
    aten.log2.default: tirx.log2,
    aten.log10.default: tirx.log10,
    aten.log1p.default: tirx.log1p,
    aten.sqrt.default: tirx.sqrt,
    aten.rsqrt.default: lambda x: _one(x) / tirx.sqrt(x),
    aten.reciprocal.default: lambda x: _one(x) / x,
    aten.sin.default: tirx.sin,
    aten.cos.default: tirx.cos,
    aten.tan.default: tirx.tan,
    aten.asin.default: tirx.asin,
    aten.acos.default: tirx.acos,
    aten.atan.default: tirx.atan,
    aten.sinh.default: tirx.sinh,
    aten.cosh.default: tirx.cosh,
    aten.tanh.default: s.tanh,
    aten.asinh.default: tirx.asinh,
    aten.acosh.default: tirx.acosh,
    aten.atanh.default: s.atanh,
    aten.erf.default: s.erf,
    aten.erfc.default: s.erfc,
    aten.sigmoid.default: s.sigmoid,
}
for _target, _function in _UNARY_REAL.items():
    _unary(_target, _function, ALL)

_UNARY_ANY: dict[torch._ops.OpOverload, tuple[Callable[[Scalar], Scalar], frozenset[Any]]] = {
    aten.abs.default: (lambda x: x if x.ty.dtype.startswith("uint") else tirx.abs(x), NUMBERS),
    aten.neg.default: (lambda x: _one(x, 0) - x if not is_float(x.ty.dtype) else -x, NUMBERS),
    aten.sign.default: (_sign, ALL),
    aten.square.default: (lambda x: x * x, NUMBERS),
    aten.relu.default: (_relu, NUMBERS),
    aten.floor.default: (_integers_stay(tirx.floor), NUMBERS),
    aten.ceil.default: (_integers_stay(tirx.ceil), NUMBERS),
    aten.trunc.default: (_integers_stay(tirx.trunc), NUMBERS),
    aten.round.default: (_integers_stay(tirx.nearbyint), NUMBERS),
    aten.frac.default: (lambda x: x - tirx.trunc(x), FLOATS),
    aten.logical_not.default: (lambda x: tirx.EQ(x, _one(x, 0)), ALL),
    aten.isnan.default: (lambda x: s.is_nan(x) if is_float(x.ty.dtype) else s.constant(False, "bool"), ALL),
    aten.isinf.default: (s.is_infinite, ALL),
    aten.isfinite.default: (s.is_finite, ALL),
}
for _target, (_function, _dtypes) in _UNARY_ANY.items():
    _unary(_target, _function, _dtypes)


@converter(aten.bitwise_not.default, dtypes=INTEGERS | BOOL)
def bitwise_not(context: Context, x: Expr) -> Expr:
    if context.dtype == "bool":
        return elementwise(context, "logical_not", [x], lambda v: tirx.EQ(v, _one(v, 0)))
    return elementwise(context, "bitwise_not", [x], tirx.bitwise_not)


@converter(aten.nan_to_num.default, dtypes=ALL)
def nan_to_num(
    context: Context, x: Expr, nan: float | None, posinf: float | None, neginf: float | None
) -> Expr:
    dtype = dtype_of(x)
    if not is_float(dtype):
        return x
    limits = torch.finfo(context.values[0].dtype)
    top = limits.max if posinf is None else posinf
    bottom = limits.min if neginf is None else neginf

    def replace(v: Scalar) -> Scalar:
        finite = tirx.Select(s.is_infinite(v), tirx.Select(v > _one(v, 0), _one(v, top), _one(v, bottom)), v)
        return tirx.Select(s.is_nan(v), _one(v, nan or 0.0), finite)

    return elementwise(context, "nan_to_num", [x], replace)


@converter(aten.round.decimals, dtypes=FLOATS)
def round_decimals(context: Context, x: Expr, decimals: int) -> Expr:
    scale = 10.0 ** abs(decimals)

    def rounded(v: Scalar) -> Scalar:
        if decimals >= 0:
            return tirx.nearbyint(v * _one(v, scale)) / _one(v, scale)
        return tirx.nearbyint(v / _one(v, scale)) * _one(v, scale)

    return elementwise(context, "round", [x], rounded)


# -- binary ----------------------------------------------------------------------------------------


def _binary(
    targets: list[torch._ops.OpOverload],
    name: str,
    function: Callable[[Scalar, Scalar], Scalar],
    dtypes: frozenset[Any],
) -> None:
    def convert(context: Context, a: Any, b: Any) -> Expr:
        # True division and friends take integers into the reals; comparisons return booleans.
        compute = arithmetic_dtype(context.dtype) if is_float(context.dtype) else promoted(context.values)
        return elementwise(context, name, [a, b], function, compute=compute)

    for target in targets:
        register_converter(target, convert, dtypes=dtypes)


def _power(a: Scalar, b: Scalar) -> Scalar:
    if is_float(a.ty.dtype):
        return tirx.pow(a, b)
    return s.integer_power(a, b)


_COMPARISONS: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "eq": tirx.EQ,
    "ne": tirx.NE,
    "lt": tirx.LT,
    "le": tirx.LE,
    "gt": tirx.GT,
    "ge": tirx.GE,
}
for _key, _compare in _COMPARISONS.items():
    _packet = getattr(aten, _key)
    _binary([_packet.Tensor, _packet.Scalar], _key, _compare, ALL)

_binary([aten.mul.Tensor, aten.mul.Scalar], "mul", lambda a, b: a * b, ALL)
_binary([aten.div.Tensor, aten.div.Scalar], "div", lambda a, b: a / b, ALL)
_binary([aten.maximum.default, aten.max.other], "maximum", s.maximum, ALL)
_binary([aten.minimum.default, aten.min.other], "minimum", s.minimum, ALL)
_binary([aten.floor_divide.default, aten.floor_divide.Scalar], "floor_divide", s.floor_divide, NUMBERS)
_binary([aten.remainder.Tensor, aten.remainder.Scalar], "remainder", s.remainder, NUMBERS)
_binary([aten.fmod.Tensor, aten.fmod.Scalar], "fmod", s.truncated_remainder, NUMBERS)
_binary([aten.pow.Tensor_Tensor, aten.pow.Scalar], "pow", _power, NUMBERS)
_binary([aten.atan2.default], "atan2", tirx.atan2, ALL)
_binary([aten.hypot.default], "hypot", lambda a, b: tirx.sqrt(a * a + b * b), FLOATS)
_binary([aten.copysign.Tensor, aten.copysign.Scalar], "copysign", tirx.copysign, FLOATS)
_binary([aten.logaddexp.default], "logaddexp", s.logaddexp, FLOATS)


def _logical(function: Callable[[Scalar, Scalar], Scalar]) -> Callable[[Scalar, Scalar], Scalar]:
    return lambda a, b: function(s.cast(a, "bool"), s.cast(b, "bool"))


_binary([aten.logical_and.default], "logical_and", _logical(tirx.And), ALL)
_binary([aten.logical_or.default], "logical_or", _logical(tirx.Or), ALL)
_binary([aten.logical_xor.default], "logical_xor", _logical(s.differ), ALL)

for _key, _bitwise in {"and": tirx.bitwise_and, "or": tirx.bitwise_or, "xor": tirx.bitwise_xor}.items():
    _packet = getattr(aten, f"bitwise_{_key}")
    _operator = getattr(aten, f"__{_key}__")
    _targets = [_packet.Tensor, _packet.Scalar, _operator.Tensor, _operator.Scalar]
    _binary(_targets, f"bitwise_{_key}", _bitwise, INTEGERS | BOOL)

_SHIFTS = INTEGERS
_binary(
    [
        aten.bitwise_left_shift.Tensor,
        aten.bitwise_left_shift.Tensor_Scalar,
        aten.__lshift__.Tensor,
        aten.__lshift__.Scalar,
    ],
    "left_shift",
    s.left_shift,
    _SHIFTS,
)
_binary(
    [
        aten.bitwise_right_shift.Tensor,
        aten.bitwise_right_shift.Tensor_Scalar,
        aten.__rshift__.Tensor,
        aten.__rshift__.Scalar,
    ],
    "right_shift",
    s.right_shift,
    _SHIFTS,
)


@converter(aten.add.Tensor, aten.add.Scalar)
def add(context: Context, a: Any, b: Any, alpha: Any) -> Expr:
    if alpha == 1 or alpha is True:
        return elementwise(context, "add", [a, b], lambda x, y: x + y, compute=promoted(context.values[:2]))
    return elementwise(
        context,
        "add",
        [a, b],
        lambda x, y: x + y * scalar(alpha, y.ty.dtype),
        compute=promoted(context.values[:2]),
    )


@converter(aten.sub.Tensor, aten.sub.Scalar, dtypes=NUMBERS)
def sub(context: Context, a: Any, b: Any, alpha: Any) -> Expr:
    def difference(x: Scalar, y: Scalar) -> Scalar:
        return x - (y if alpha == 1 else y * scalar(alpha, y.ty.dtype))

    return elementwise(context, "sub", [a, b], difference, compute=promoted(context.values[:2]))


@converter(aten.rsub.Tensor, aten.rsub.Scalar, dtypes=NUMBERS)
def rsub(context: Context, a: Any, b: Any, alpha: Any) -> Expr:
    def difference(x: Scalar, y: Scalar) -> Scalar:
        return y - (x if alpha == 1 else x * scalar(alpha, x.ty.dtype))

    return elementwise(context, "sub", [a, b], difference, compute=promoted(context.values[:2]))


@converter(aten.div.Tensor_mode, aten.div.Scalar_mode, dtypes=NUMBERS)
def div_mode(context: Context, a: Any, b: Any, rounding_mode: str | None) -> Expr:
    rule = {None: lambda x, y: x / y, "floor": s.floor_divide, "trunc": s.truncate_divide}[rounding_mode]
    compute = promoted(context.values[:2]) if rounding_mode else arithmetic_dtype(context.dtype)
    return elementwise(context, f"div_{rounding_mode or 'true'}", [a, b], rule, compute=compute)


@converter(aten.pow.Tensor_Scalar, dtypes=NUMBERS)
def pow_scalar(context: Context, x: Expr, exponent: Any) -> Expr:
    if isinstance(exponent, (int, float)) and float(exponent) in _SMALL_POWERS and is_float(context.dtype):
        power = _SMALL_POWERS[float(exponent)]
        return elementwise(context, "pow", [x], power, compute=arithmetic_dtype(context.dtype))
    if not is_float(context.dtype):
        if not isinstance(exponent, int) or exponent < 0:
            raise Unsupported(f"integers to the power {exponent}")
        return elementwise(context, "pow", [x], lambda v: s.constant_power(v, exponent))
    return elementwise(context, "pow", [x, exponent], _power, compute=arithmetic_dtype(context.dtype))


_SMALL_POWERS: dict[float, Callable[[Scalar], Scalar]] = {
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    0.5: tirx.sqrt,
    -0.5: lambda x: _one(x) / tirx.sqrt(x),
    -1.0: lambda x: _one(x) / x,
    -2.0: lambda x: _one(x) / (x * x),
    1.0: lambda x: x,
}


# -- ternary ---------------------------------------------------------------------------------------


@converter(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def where(context: Context, condition: Expr, a: Any, b: Any) -> Expr:
    compute = context.dtype
    return elementwise(context, "where", [condition, a, b], tirx.Select, compute=["bool", compute, compute])


@converter(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(context: Context, x: Expr, mask: Expr, value: Any) -> Expr:
    compute = context.dtype
    return elementwise(
        context,
        "masked_fill",
        [x, mask, value],
        lambda v, m, fill: tirx.Select(m, fill, v),
        compute=[compute, "bool", compute],
    )


@converter(aten.clamp.default, aten.clamp.Tensor, aten.clip.default, aten.clip.Tensor, dtypes=NUMBERS)
def clamp(context: Context, x: Expr, low: Any, high: Any) -> Expr:
    bounds = [b for b in (low, high) if b is not None]

    def limit(v: Scalar, *limits: Scalar) -> Scalar:
        rest = list(limits)
        if low is not None:
            v = _limit(v, rest.pop(0), tirx.LT, exact=not is_tensor(low))
        if high is not None:
            v = _limit(v, rest.pop(0), tirx.GT, exact=not is_tensor(high))
        return v

    return elementwise(context, "clamp", [x, *bounds], limit)


def _limit(v: Scalar, bound: Scalar, beyond: Callable[[Scalar, Scalar], Scalar], *, exact: bool) -> Scalar:
    """``bound`` where ``v`` is beyond it; NaN stays NaN, and a NaN bound (of a tensor) wins."""
    outside = beyond(v, bound)
    if not exact and is_float(v.ty.dtype):
        outside = tirx.Or(outside, s.is_nan(bound))
    return tirx.Select(outside, bound, v)


@converter(aten.clamp_min.default, aten.clamp_min.Tensor, dtypes=NUMBERS)
def clamp_min(context: Context, x: Expr, low: Any) -> Expr:
    return clamp(context, x, low, None)


@converter(aten.clamp_max.default, aten.clamp_max.Tensor, dtypes=NUMBERS)
def clamp_max(context: Context, x: Expr, high: Any) -> Expr:
    return clamp(context, x, None, high)


@converter(aten.addcmul.default, dtypes=NUMBERS)
def addcmul(context: Context, x: Expr, a: Expr, b: Expr, value: Any) -> Expr:
    return elementwise(
        context,
        "addcmul",
        [x, a, b],
        lambda v, p, q: v + scalar(value, v.ty.dtype) * p * q,
        compute=promoted(context.values[:3]),
    )


@converter(aten.addcdiv.default, dtypes=FLOATS)
def addcdiv(context: Context, x: Expr, a: Expr, b: Expr, value: Any) -> Expr:
    return elementwise(
        context,
        "addcdiv",
        [x, a, b],
        lambda v, p, q: v + scalar(value, v.ty.dtype) * p / q,
        compute=promoted(context.values[:3]),
    )


@converter(aten.lerp.Scalar, aten.lerp.Tensor, dtypes=FLOATS)
def lerp(context: Context, start: Expr, end: Expr, weight: Any) -> Expr:
    def interpolate(a: Scalar, b: Scalar, w: Scalar) -> Scalar:
        near = a + w * (b - a)
        far = b - (b - a) * (_one(w) - w)
        return tirx.Select(tirx.abs(w) < _one(w, 0.5), near, far)

    return elementwise(context, "lerp", [start, end, weight], interpolate)


# -- casts and copies ------------------------------------------------------------------------------


def convert_dtype(context: Context, x: Expr) -> Expr:
    """``x`` in the node's output dtype; ``x`` itself if it has that."""
    if dtype_of(x) == context.dtype:
        return x
    return elementwise(context, f"cast_{context.dtype}", [x], lambda v: v, compute=dtype_of(x))


@converter(
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
    aten.positive.default,
    torch.ops.prims.convert_element_type.default,
)
def cast_or_copy(context: Context, x: Expr, *_: Any) -> Expr:
    return convert_dtype(context, x)


@converter(aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default, dtypes=ALL)
def dropout(context: Context, x: Expr, p: float, train: bool) -> Expr:
    if train and p != 0:
        raise Unsupported("dropout in training mode")
    return x
