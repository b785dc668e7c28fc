"""Comparison, logic and bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.arithmetic import legacy_broadcast
from graphopt.frontends.onnx.registry import OPERAND, op

_MIRRORED = {
    torch.lt: torch.gt,
    torch.gt: torch.lt,
    torch.le: torch.ge,
    torch.ge: torch.le,
    torch.eq: torch.eq,
}


def _register_comparison(op_type: str, function: Callable[..., torch.Tensor]) -> None:
    def compare(call: Call, a: Any, b: Any) -> torch.Tensor:
        if call.opset < 7:
            b = legacy_broadcast(call, a, b)
        return function(a, b) if isinstance(a, torch.Tensor) else _MIRRORED[function](b, a)

    op(op_type, default=OPERAND)(compare)


for _name, _function in {
    "Equal": torch.eq,
    "Less": torch.lt,
    "Greater": torch.gt,
    "LessOrEqual": torch.le,
    "GreaterOrEqual": torch.ge,
}.items():
    _register_comparison(_name, _function)


def _register_pair(op_type: str, function: Callable[..., torch.Tensor]) -> None:
    @op(op_type)
    def converter(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return function(a, legacy_broadcast(call, a, b) if call.opset < 7 else b)


for _name, _pair in {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}.items():
    _register_pair(_name, _pair)


@op("Not")
def logical_not(call: Call, x: torch.Tensor) -> torch.Tensor:
    return torch.logical_not(x)


@op("BitwiseNot", since=18)
def bitwise_not(call: Call, x: torch.Tensor) -> torch.Tensor:
    return torch.bitwise_not(x)


@op("IsNaN", since=9)
def is_nan(call: Call, x: torch.Tensor) -> torch.Tensor:
    return torch.isnan(x)


@op("IsInf", since=10)
def is_inf(call: Call, x: torch.Tensor) -> torch.Tensor:
    positive, negative = call.flag("detect_positive", True), call.flag("detect_negative", True)
    if positive and negative:
        return torch.isinf(x)
    if positive:
        return torch.isposinf(x)
    return torch.isneginf(x) if negative else torch.zeros_like(x, dtype=torch.bool)


@op("Where", since=9, kinds={1: OPERAND, 2: OPERAND})
def where(call: Call, condition: torch.Tensor, a: Any, b: Any) -> torch.Tensor:
    if not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor):
        # Two numbers have lost the element type that the model gives them.
        a = torch.full([], a, dtype=call.input_dtype(1), device=condition.device)
    return torch.where(condition, a, b)
