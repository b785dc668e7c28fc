"""Elementwise arithmetic: https://onnx.ai/onnx/operators/ (Add, Div, Exp, …)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.unsigned import (
    UNSIGNED,
    divided,
    modular,
    ordered,
    signed,
    unsigned_dtype,
    wrap,
)
from graphopt.frontends.onnx.registry import OPERAND, op

Operand = Any
"""A tensor, or a Python or symbolic number; never two numbers at once."""


LEGACY_BROADCAST = frozenset({"axis", "broadcast"})
"""Attributes of opset 6 and below that :func:`legacy_broadcast` reads where they mean something."""


def legacy_broadcast(call: Call, x: torch.Tensor, other: Operand) -> Operand:
    """Before opset 7, ``axis`` said where the second operand's axes stand among the first's."""
    axis = call.int("axis")
    if not call.flag("broadcast") or axis is None or not isinstance(other, torch.Tensor):
        return other
    axis = axis % x.ndim
    return other.reshape([*other.shape, *[1] * (x.ndim - axis - other.ndim)])


def _tensor(value: Operand, like: Operand) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.full((), value, dtype=like.dtype)


def _is_integer(a: Operand, b: Operand) -> bool:
    dtype = a.dtype if isinstance(a, torch.Tensor) else b.dtype
    return not dtype.is_floating_point


def divide(a: Operand, b: Operand) -> torch.Tensor:
    """ONNX Div: integers are divided towards zero."""
    unsigned = unsigned_dtype(a, b)
    if unsigned is not None:
        return divided(a, b, unsigned)[0]
    if _is_integer(a, b):
        return torch.div(_tensor(a, b), b, rounding_mode="trunc")
    # torch.div(number, tensor) would give reciprocal and mul; ONNX divides.
    return torch.div(_tensor(a, b), b)


def _register_binary(op_type: str, function: Callable[[Operand, Operand], torch.Tensor]) -> None:
    @op(op_type, since=1, default=OPERAND, ignores=LEGACY_BROADCAST)
    def legacy(call: Call, a: Operand, b: Operand) -> torch.Tensor:
        return function(a, legacy_broadcast(call, a, b))

    @op(op_type, since=7, default=OPERAND)
    def modern(call: Call, a: Operand, b: Operand) -> torch.Tensor:
        return function(a, b)


def _add(a: Operand, b: Operand) -> torch.Tensor:
    return torch.add(a, b) if isinstance(a, torch.Tensor) else torch.add(b, a)


def _mul(a: Operand, b: Operand) -> torch.Tensor:
    return torch.mul(a, b) if isinstance(a, torch.Tensor) else torch.mul(b, a)


def _sub(a: Operand, b: Operand) -> torch.Tensor:
    return torch.sub(a, b) if isinstance(a, torch.Tensor) else torch.rsub(b, a)


for _name, _function in {
    "Add": modular(_add),
    "Sub": modular(_sub),
    "Mul": modular(_mul),
    "Div": divide,
}.items():
    _register_binary(_name, _function)


@op("Pow", since=1, default=OPERAND, ignores=LEGACY_BROADCAST)
def power(call: Call, base: Operand, exponent: Operand) -> torch.Tensor:
    """The result has the base's type, also where the exponent's is wider."""
    exponent = legacy_broadcast(call, base, exponent) if call.opset < 7 else exponent
    if not isinstance(base, torch.Tensor):
        return torch.pow(base, exponent)
    if not isinstance(exponent, torch.Tensor):
        if not base.dtype.is_floating_point and isinstance(exponent, float):
            return torch.pow(base.double(), exponent).to(base.dtype)
        return torch.pow(base, exponent)
    if base.dtype == exponent.dtype:
        return torch.pow(base, exponent)
    return torch.pow(base.to(torch.promote_types(base.dtype, exponent.dtype)), exponent).to(base.dtype)


@op("Mod", since=10, default=OPERAND)
def modulo(call: Call, a: Operand, b: Operand) -> torch.Tensor:
    """``fmod=0``: the divisor's sign (integers only); ``fmod=1``: the dividend's, as C has it."""
    unsigned = unsigned_dtype(a, b)
    if unsigned is not None:
        call.flag("fmod")  # both signs are that of a positive number
        return divided(a, b, unsigned)[1]
    remainder = torch.fmod if call.flag("fmod") else torch.remainder
    return remainder(_tensor(a, b), b)


@op("BitShift", since=11)
def bit_shift(call: Call, x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Unsigned numbers: what is shifted out is gone, zeros come in."""
    leftwards = call.str("direction") == "LEFT"
    shift = torch.bitwise_left_shift if leftwards else torch.bitwise_right_shift
    if x.dtype not in UNSIGNED:
        return shift(x, bits)
    wide, count = signed(x), signed(bits)
    if leftwards or x.dtype != torch.uint64:
        return wrap(shift(wide, count), x.dtype)
    # int64 shifts its sign bit in from the left: those places are cleared.
    places = torch.bitwise_left_shift(torch.full_like(wide, -1), 64 - count)
    return torch.where(count == 0, wide, shift(wide, count) & ~places).to(x.dtype)


def _fold(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def converter(call: Call, *inputs: torch.Tensor) -> torch.Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return converter


op("Sum")(_fold(torch.add))
op("Max")(_fold(ordered(torch.maximum)))
op("Min")(_fold(ordered(torch.minimum)))


@op("Mean")
def mean(call: Call, *inputs: torch.Tensor) -> torch.Tensor:
    return _fold(torch.add)(call, *inputs) / len(inputs)


_UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Ceil": torch.ceil,
    "Floor": torch.floor,
    # ONNX and torch both round halves to even.
    "Round": torch.round,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sign": torch.sign,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
}


def _register_unary(op_type: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    @op(op_type)
    def converter(call: Call, x: torch.Tensor) -> torch.Tensor:
        return function(x)


for _name, _unary in _UNARY.items():
    _register_unary(_name, _unary)


@op("Clip", since=1)
def clip_attributes(call: Call, x: torch.Tensor) -> torch.Tensor:
    low, high = call.float("min"), call.float("max")
    return x if low is None and high is None else torch.clamp(x, low, high)


@op("Clip", since=11, kinds={1: OPERAND, 2: OPERAND})
def clip(
    call: Call, x: torch.Tensor, low: Operand | None = None, high: Operand | None = None
) -> torch.Tensor:
    if low is None and high is None:
        return x
    low, high = (_plain_bound(b) for b in (low, high))
    if isinstance(low, torch.Tensor) != isinstance(high, torch.Tensor):
        # torch.clamp takes two tensors or two numbers.
        low = None if low is None else _tensor(low, x)
        high = None if high is None else _tensor(high, x)
    return torch.clamp(x, low, high)


def _plain_bound(bound: Operand | None) -> Operand | None:
    """An infinite bound is none."""
    return None if isinstance(bound, float) and math.isinf(bound) else bound
