"""Operators on elements: activations, arithmetic, comparisons, casts."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.fuzz.generation.sketch import FLOATS, INTEGERS, Shape, Sketch, Value, kind_of
from graphopt.fuzz.generation.specs.spec import Attributes, Spec, back_of, keeping
from graphopt.fuzz.graphs import Argument, Ref, TorchConstant


def _numbers(*bounds: tuple[float, float]) -> Attributes:
    return lambda s, x: tuple(s.number(low, high) for low, high in bounds)


def _between(low: float, high: float) -> Callable[[Value], bool]:
    """All elements lie in a range, so that the result is finite and well-conditioned."""
    return lambda x: bool(((x.tensor >= low) & (x.tensor <= high)).all())


def _inside(operator: str, low: float, high: float) -> Spec:
    """An operator with a domain.  What lies outside of it is brought inside first."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        if _between(low, high)(x):
            return s.call(operator, x.ref)
        if low >= 0 and s.choices.chance(0.5):
            found = s.call("aten.abs.default", x.ref)
            found = found and s.call("aten.add.Tensor", found, max(low, 0.25))
            if found is None or not _between(low, high)(s.value(found)):
                return None
            return s.call(operator, found)
        inside = s.call("aten.clamp.default", x.ref, low, high)
        return inside and s.call(operator, inside)

    return Spec(operator, grow, back=back_of(grow, "f"))


def _scalar(operator: str, kinds: str = "fi", low: float = -2.0, high: float = 2.0) -> Spec:
    """A tensor and a Python number; integers take integers, so that their dtype stays."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, _number_for(s, x, low, high))

    return Spec(operator, grow, kinds, back=back_of(grow, kinds))


def _number_for(s: Sketch, x: Value, low: float, high: float) -> float | int:
    if x.kind == "f" and s.choices.chance(0.8):
        return s.number(low, high)
    return s.choices.integer(max(0, round(low)) if x.dtype == "uint8" else round(low), round(high))


def _binary(
    operator: str,
    kinds: str = "fi",
    safe: bool = True,
    *,
    keywords: Callable[[Sketch], dict[str, Argument]] | None = None,
) -> Spec:
    """Two tensors that broadcast; the value is either of them.  A number stands for the second sometimes.

    Args:
        safe: False for divisors, which must not be near zero.
    """

    def grow(s: Sketch, x: Value) -> Ref | None:
        extra = keywords(s) if keywords is not None else {}
        values = "positive" if not safe and x.kind == "f" else "normal"
        if not safe or s.choices.chance(0.25):
            if x.kind == "f" and s.choices.chance(0.5):
                return s.call(operator, x.ref, s.number(0.5, 2.5), **extra)
            if x.kind == "i":
                return s.call(operator, x.ref, s.size(1, 9), **extra)
        other = s.broadcast(x.shape, x.dtype, values)  # type: ignore[arg-type]
        if safe and s.choices.chance(0.5):
            return s.call(operator, other, x.ref, **extra)
        return s.call(operator, x.ref, other, **extra)

    return Spec(operator, grow, kinds, back=back_of(grow, kinds))


def _alpha(s: Sketch) -> dict[str, Argument]:
    return {"alpha": s.choices.integer(1, 3)} if s.choices.chance(0.1) else {}


def _comparison(operator: str, scalar: bool) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        other = _number_for(s, x, -1.0, 1.0) if scalar else s.broadcast(x.shape, x.dtype)
        return s.call(operator, x.ref, other)

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if dtype != "bool":
            return None
        return grow(s, s.value(s.input(shape, s.choices.one_of(("float32", "int64", "float16")))))

    return Spec(operator, grow, "fi", back=back)


def _where(s: Sketch, x: Value) -> Ref | None:
    condition = s.broadcast(x.shape, "bool")
    return s.call("aten.where.self", condition, x.ref, s.broadcast(x.shape, x.dtype))


def _where_number(s: Sketch, x: Value) -> Ref | None:
    condition = s.broadcast(x.shape, "bool")
    return s.call("aten.where.ScalarOther", condition, x.ref, _number_for(s, x, -2.0, 2.0))


def _masked_fill(s: Sketch, x: Value) -> Ref | None:
    mask = s.broadcast(x.shape, "bool")
    return s.call("aten.masked_fill.Scalar", x.ref, mask, _number_for(s, x, -4.0, 4.0))


def _add_product(operator: str) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        other = s.broadcast(x.shape, x.dtype)
        last = s.broadcast(x.shape, x.dtype, "positive" if "div" in operator else "normal")
        extra: dict[str, Argument] = {"value": s.number(-1.0, 1.0)} if s.choices.chance(0.5) else {}
        return s.call(operator, x.ref, other, last, **extra)

    return Spec(operator, grow, back=back_of(grow, "f"))


def _lerp(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.lerp.Scalar", x.ref, s.operand(x.shape, x.dtype), s.number(0.0, 1.0))


def _clamp(s: Sketch, x: Value) -> tuple[Argument, ...]:
    low, high = _number_for(s, x, -1.0, 0.0), _number_for(s, x, 0.5, 3.0)
    return s.choices.one_of(((low, high), (low,), (None, high)))


def _divide_rounding(s: Sketch) -> dict[str, Argument]:
    return {"rounding_mode": s.choices.one_of(("floor", "trunc"))}


def _number_below(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.rsub.Scalar", x.ref, _number_for(s, x, -2.0, 2.0))


def _power(s: Sketch, x: Value) -> Ref | None:
    exponent: float | int = s.choices.one_of((2, 3, 2.0, 3.0, 0.5, -0.5, -1.0))
    if exponent not in (2, 3) and not _between(0.1, 100.0)(x):
        return None
    return s.call("aten.pow.Tensor_Scalar", x.ref, exponent)


def _power_of_number(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.pow.Scalar", s.choices.one_of((2.0, 0.5, 1.5)), x.ref)


def _logical(operator: str) -> Spec:
    return _binary(operator, kinds="b")


def _shift(operator: str) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, s.choices.integer(0, 3))

    return Spec(operator, grow, "i", back=back_of(grow, "i"), fits=_between(0, 15))


def _cast(s: Sketch, x: Value) -> Ref | None:
    to = s.choices.one_of([d for d in (*FLOATS, *INTEGERS, "bool") if d != x.dtype])
    if kind_of(to) == "i" and not _between(0 if to == "uint8" else -100, 100)(x):
        to = "float32"
    return s.call("aten.to.dtype", x.ref, TorchConstant(to))


def _cast_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if kind_of(dtype) != "f":
        return None
    source = s.choices.one_of([d for d in (*FLOATS, "int64", "uint8", "bool") if d != dtype])
    return s.call("aten.to.dtype", s.input(shape, source), TorchConstant(dtype))


def _copy_cast(s: Sketch, x: Value) -> Ref | None:
    to = s.choices.one_of([d for d in FLOATS if d != x.dtype])
    return s.call("aten._to_copy.default", x.ref, dtype=TorchConstant(to))


def _softplus(s: Sketch, x: Value) -> tuple[Argument, ...]:
    return s.choices.one_of(((), (2.0,), (0.5, 10.0)))


ACTIVATIONS: tuple[Spec, ...] = (
    keeping("aten.relu.default", kinds="fi"),
    keeping("aten.sigmoid.default"),
    keeping("aten.tanh.default"),
    keeping("aten.silu.default"),
    keeping("aten.gelu.default"),
    keeping("aten.gelu.default", approximate="tanh"),
    keeping("aten.relu6.default"),
    keeping("aten.hardswish.default"),
    keeping("aten.hardsigmoid.default"),
    keeping("aten.hardtanh.default", _numbers((-2.0, 0.0), (0.5, 2.0))),
    keeping("aten.elu.default", _numbers((0.5, 1.5))),
    keeping("aten.selu.default"),
    keeping("aten.celu.default", _numbers((0.5, 1.5))),
    keeping("aten.leaky_relu.default", _numbers((0.0, 0.5))),
    keeping("aten.softplus.default", _softplus),
    keeping("aten.mish.default"),
    keeping("aten.log_sigmoid.default"),
    keeping("aten.clamp.default", _clamp, kinds="fi"),
    keeping("aten.clamp_min.default", lambda s, x: (_number_for(s, x, -1.0, 1.0),), kinds="fi"),
    keeping("aten.clamp_max.default", lambda s, x: (_number_for(s, x, 0.0, 2.0),), kinds="fi"),
    keeping("aten.dropout.default", lambda s, x: (s.number(0.0, 0.5), False)),
)

UNARY: tuple[Spec, ...] = (
    keeping("aten.neg.default", kinds="fi"),
    keeping("aten.abs.default", kinds="fi"),
    keeping("aten.square.default"),
    keeping("aten.sin.default"),
    keeping("aten.cos.default"),
    keeping("aten.atan.default"),
    keeping("aten.asinh.default"),
    keeping("aten.erf.default"),
    keeping("aten.floor.default"),
    keeping("aten.ceil.default"),
    keeping("aten.round.default"),
    keeping("aten.trunc.default"),
    keeping("aten.sign.default", kinds="fi"),
    keeping("aten.clone.default", kinds="fib"),
    keeping("aten.contiguous.default", kinds="fib"),
    keeping("aten.detach.default", kinds="fib"),
    keeping("aten.logical_not.default", kinds="b"),
    keeping("aten.bitwise_not.default", kinds="ib"),
    keeping("aten.zeros_like.default", kinds="fib"),
    keeping("aten.ones_like.default", kinds="fib"),
    keeping("aten.full_like.default", lambda s, x: (_number_for(s, x, -2.0, 2.0),), kinds="fi"),
    _inside("aten.exp.default", -6.0, 6.0),
    _inside("aten.exp2.default", -6.0, 6.0),
    _inside("aten.expm1.default", -6.0, 6.0),
    _inside("aten.sinh.default", -4.0, 4.0),
    _inside("aten.cosh.default", -4.0, 4.0),
    _inside("aten.tan.default", -1.25, 1.25),
    _inside("aten.asin.default", -0.9, 0.9),
    _inside("aten.acos.default", -0.9, 0.9),
    _inside("aten.sqrt.default", 0.1, 1000.0),
    _inside("aten.rsqrt.default", 0.1, 1000.0),
    _inside("aten.reciprocal.default", 0.1, 1000.0),
    _inside("aten.log.default", 0.1, 1000.0),
    _inside("aten.log2.default", 0.1, 1000.0),
    _inside("aten.log1p.default", -0.5, 1000.0),
)

BINARY: tuple[Spec, ...] = (
    _binary("aten.add.Tensor", keywords=_alpha),
    _binary("aten.mul.Tensor"),
    _binary("aten.sub.Tensor", keywords=_alpha),
    _binary("aten.div.Tensor", "f", safe=False),
    _binary("aten.div.Tensor_mode", safe=False, keywords=_divide_rounding),
    _binary("aten.maximum.default"),
    _binary("aten.minimum.default"),
    _binary("aten.atan2.default", "f", safe=False),
    _binary("aten.floor_divide.default", safe=False),
    _scalar("aten.remainder.Scalar", low=1.0, high=4.0),
    _scalar("aten.fmod.Scalar", low=1.0, high=4.0),
    Spec("aten.rsub.Scalar", _number_below, "fi", back=back_of(_number_below, "fi")),
    Spec("aten.pow.Tensor_Scalar", _power, back=back_of(_power, "f"), fits=_between(-30, 30)),
    Spec("aten.pow.Scalar", _power_of_number, fits=_between(-6, 6)),
    Spec("aten.where.self", _where, "fib", back=back_of(_where)),
    Spec("aten.where.ScalarOther", _where_number, "f", back=back_of(_where_number, "f")),
    Spec("aten.masked_fill.Scalar", _masked_fill, "fi", back=back_of(_masked_fill, "fi")),
    Spec("aten.lerp.Scalar", _lerp, back=back_of(_lerp, "f")),
    _add_product("aten.addcmul.default"),
    _add_product("aten.addcdiv.default"),
    *(_logical(f"aten.logical_{name}.default") for name in ("and", "or", "xor")),
    *(_binary(f"aten.bitwise_{name}.Tensor", "ib") for name in ("and", "or", "xor")),
    *(_shift(f"aten.{name}.Tensor_Scalar") for name in ("bitwise_left_shift", "bitwise_right_shift")),
    *(_comparison(f"aten.{name}.Scalar", True) for name in ("gt", "lt", "ge", "le", "eq", "ne")),
    *(_comparison(f"aten.{name}.Tensor", False) for name in ("gt", "lt", "ge", "le", "eq", "ne")),
)

CASTS: tuple[Spec, ...] = (
    Spec("aten.to.dtype", _cast, "fib", back=_cast_back),
    Spec("aten._to_copy.default", _copy_cast, "f"),
    keeping("aten.isnan.default"),
)
