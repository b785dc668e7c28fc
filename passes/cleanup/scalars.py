"""Constant tensors of one element as numbers; powers and reciprocals by name."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import (
    is_floating,
    is_number,
    is_tensor,
    is_trainable,
    operands,
    same_shape,
)
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten

_BINARY = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "remainder",
    "floor_divide",
    "fmod",
)


class NumberOperand(RewriteRule):
    """x + tensor(2.0) -> x + 2.0 where dtype and shape of the result stay the same

    Args:
        parameters: also where the tensor is a trainable parameter, which then is one no more.
    """

    def __init__(self, parameters: bool = False) -> None:
        self.parameters = parameters

    def pattern(self, op: PatternOps, x: Any, c: Any) -> Any:
        return op.any_of(_BINARY, x, c)

    def check(self, match: Match) -> Verdict:
        if not is_tensor(match.c) or not is_tensor(match.x):
            return match.fail("it is a number already")
        number = match.number("c")
        if number is None or match.c.rank > match.x.rank:
            return match.fail("the operand is not a constant of one element")
        if is_trainable(match.c) and not self.parameters:
            return match.fail("the constant is trainable")
        if not same_shape(match.x.shape, match.result.shape):
            return match.fail("the constant adds axes")
        if _dtype_with_number(match.result.node, match.x, match.c, number) != match.result.dtype:
            return match.fail("a number would give another dtype")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        packet = match.result.node.target.overloadpacket  # type: ignore[union-attr]
        return op.overload(packet, match.x, match.number("c"))


def _dtype_with_number(node: Any, x: Value, c: Value, number: float | int) -> torch.dtype | None:
    """The dtype that the call gives with ``number``; None if ``c`` is not its second operand."""
    names = list(operands(node).items())[:2]
    commutes = node.target.overloadpacket in (aten.add, aten.mul, aten.eq, aten.ne)
    if names[1][1] is not c.node and not commutes:
        return None
    stand_in = torch.empty([1] * x.rank, dtype=x.dtype, device="meta")
    return node.target.overloadpacket(stand_in, number).dtype


class SquareRootPower(RewriteRule):
    """x ** 0.5 -> sqrt(x); x ** -0.5 -> rsqrt(x); x ** -1 -> reciprocal(x)"""

    def pattern(self, op: PatternOps, x: Any, e: Any) -> Any:
        return op.pow(x, e)

    def check(self, match: Match) -> Verdict:
        if not is_floating(match.x) or not is_number(match.e) or match.result.dtype != match.x.dtype:
            return match.fail("it is not a floating-point power with a number")
        if match.e not in (0.5, -0.5, -1):
            return match.fail(f"the exponent is {match.e}")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, e: float) -> Value:
        return {0.5: op.sqrt, -0.5: op.rsqrt, -1: op.reciprocal}[e](x)


class ReciprocalSquareRoot(RewriteRule):
    """1 / sqrt(x), reciprocal(sqrt(x)) -> rsqrt(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.either(op.reciprocal(op.sqrt(x)), op.div(1, op.sqrt(x)))

    def check(self, match: Match) -> Verdict:
        x, y = match.x, match.result
        if not is_floating(x) or x.dtype != y.dtype or not same_shape(x.shape, y.shape):
            return match.fail("dtype or shape change")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.rsqrt(x)
