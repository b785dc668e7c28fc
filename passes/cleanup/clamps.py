"""Clipping: one operator, with numbers for bounds, once."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import is_floating, is_number, is_tensor, is_trainable, same_shape
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten

Bounds = tuple[float | int | None, float | int | None]


class CanonicalClamp(RewriteRule):
    """clamp_min, clamp_max, hardtanh, relu6, maximum(x, c), minimum(x, c) -> clamp(x, low, high)

    Args:
        parameters: also where a bound is a trainable parameter, which then is one no more.
    """

    def __init__(self, parameters: bool = False) -> None:
        self.parameters = parameters

    def pattern(self, op: PatternOps, x: Any, low: Any, high: Any) -> Any:
        return op.either(
            op.any_of(("clamp_min", "maximum"), x, low),
            op.any_of(("clamp_max", "minimum"), x, high),
            op.hardtanh(x, low, high),
            op.relu6(x),
            op.any_of(("clamp", "clip"), x, low, high),
        )

    def check(self, match: Match) -> Verdict:
        if not is_floating(match.x) or match.x.is_constant:
            return match.fail("x is not a computed floating-point tensor")
        if match.result.node.target is aten.clamp.default:
            return match.fail("it is canonical already")
        for name in ("low", "high"):
            bound = match.bindings.get(name)
            if bound is None:
                continue
            if match.number(name) is None or (is_trainable(bound) and not self.parameters):
                return match.fail(f"the bound {name} is not one fixed number")
        if match.x.dtype != match.result.dtype or not same_shape(match.x.shape, match.result.shape):
            return match.fail("a bound changes the dtype or shape")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        low, high = bounds_of(match)
        if match.result.node.target is aten.relu6.default:
            low, high = 0.0, 6.0
        return op.overload(aten.clamp.default, match.x, low, high)


def bounds_of(match: Match, low: str = "low", high: str = "high") -> Bounds:
    """Two variables as bounds, None for one that the pattern did not bind."""
    return tuple(match.number(n) if match.bindings.get(n) is not None else None for n in (low, high))  # type: ignore[return-value]


class ClampOfClamp(RewriteRule):
    """clamp(clamp(x, a, b), c, d) -> one clamp; the inner may be relu"""

    def pattern(self, op: PatternOps, x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return op.clamp(op.either(op.clamp(x, a, b), op.relu(x)), c, d)

    def check(self, match: Match) -> Verdict:
        if not is_floating(match.x):
            return match.fail("x is not floating point")
        for name in "abcd":
            bound = match.bindings.get(name)
            if bound is not None and not is_number(bound):
                return match.fail(f"the bound {name} is not a number")
        for low, high in ("ab", "cd"):
            if None not in (x := bounds_of(match, low, high)) and x[0] > x[1]:  # type: ignore[operator]
                return match.fail("the bounds of a clamp are crossed")
        if match.x.dtype != match.result.dtype:
            return match.fail("a bound changes the dtype")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        a, b = bounds_of(match, "a", "b")
        c, d = bounds_of(match, "c", "d")
        if "a" not in match.bindings:
            a = 0.0
        low = _clip(a, c, d) if a is not None else c
        high = _clip(b, c, d) if b is not None else d
        return op.overload(aten.clamp.default, match.x, low, high)


def _clip(value: float | int, low: float | int | None, high: float | int | None) -> float | int:
    if low is not None:
        value = max(value, low)
    return value if high is None else min(value, high)


class ClampAtZero(RewriteRule):
    """clamp(x, 0, None) -> relu(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.clamp(x, 0, None)

    def check(self, match: Match) -> Verdict:
        return (
            match.ok()
            if is_tensor(match.x) and is_floating(match.x)
            else match.fail("x is not floating point")
        )

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.relu(x)
