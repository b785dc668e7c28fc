"""Activations that exporters decompose, as one operator again."""

from __future__ import annotations

import math
from typing import Any

from graphopt.passes.cleanup.facts import about, is_floating, is_number, same_type
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule


class _OneInput(RewriteRule):
    """Common to rules from an expression of one floating-point ``x`` to an operator on it."""

    def check(self, match: Match) -> Verdict:
        if not is_floating(match.x):
            return match.fail("x is not a floating-point tensor")
        if not same_type(match.x, match.result):
            return match.fail("a constant changes the dtype or shape")
        return match.ok()


def _scaled(op: PatternOps, x: Any, factor: float) -> Any:
    """``x * factor`` or ``x / (1 / factor)``."""
    return op.either(op.mul(x, factor), op.div(x, 1 / factor))


class Silu(_OneInput):
    """x * sigmoid(x) -> silu(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.mul(x, op.sigmoid(x))

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.silu(x)


class Mish(_OneInput):
    """x * tanh(softplus(x)) -> mish(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.mul(x, op.tanh(op.softplus(x)))

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.mish(x)


class GeluErf(_OneInput):
    """x * 0.5 * (1 + erf(x / sqrt(2))) -> gelu(x), the factors in any order"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        erf = op.add(op.erf(_scaled(op, x, math.sqrt(0.5))), 1)
        return op.either(
            op.mul(_scaled(op, x, 0.5), erf),
            op.mul(x, _scaled(op, erf, 0.5)),
            op.mul(op.mul(x, erf), 0.5),
            op.div(op.mul(x, erf), 2),
        )

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.gelu(x)


class GeluTanh(_OneInput):
    """x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) -> gelu(x, approximate="tanh")

    Hendrycks & Gimpel 2016 (arXiv 1606.08415) §2; as GPT-2 and its exporters write it.
    """

    def pattern(self, op: PatternOps, x: Any) -> Any:
        c = math.sqrt(2 / math.pi)
        square = op.either(op.mul(x, x), op.pow(x, 2), op.square(x))
        cube = op.either(op.pow(x, 3), op.mul(x, square))
        polynomial = op.add(x, op.either(op.mul(cube, 0.044715), op.mul(op.mul(x, 0.044715), square)))
        factored = op.add(op.either(op.mul(square, 0.044715), op.mul(op.mul(x, 0.044715), x)), 1)
        inner = op.either(
            op.mul(polynomial, c),
            op.mul(op.mul(x, c), factored),
            op.mul(op.mul(x, factored), c),
        )
        gate = op.add(op.tanh(inner), 1)
        return op.either(
            op.mul(_scaled(op, x, 0.5), gate),
            op.mul(x, _scaled(op, gate, 0.5)),
            op.mul(op.mul(x, gate), 0.5),
            op.div(op.mul(x, gate), 2),
        )

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.gelu(x, approximate="tanh")


class HardSwish(_OneInput):
    """x * clip(x + 3, 0, 6) / 6 -> hardswish(x); other numbers -> graphopt::hard_swish

    Howard et al. 2019 (arXiv 1905.02244) §5.2.
    """

    def pattern(self, op: PatternOps, x: Any, offset: Any, top: Any, scale: Any, factor: Any) -> Any:
        gate = op.clamp(op.add(x, offset), 0, top)
        return op.either(
            op.div(op.mul(x, gate), scale),
            op.mul(op.mul(x, gate), factor),
            op.mul(x, op.div(gate, scale)),
            op.mul(x, op.mul(gate, factor)),
            op.mul(gate, op.div(x, scale)),
            op.mul(gate, op.mul(x, factor)),
        )

    def check(self, match: Match) -> Verdict:
        numbers = (match.offset, match.top, self._scale(match))
        if not all(is_number(n) for n in numbers):
            return match.fail("offset, bound and scale are not all numbers")
        if match.top < 0 or self._scale(match) == 0 or not math.isfinite(match.top):
            return match.fail("the clip range is empty or open, or the scale is 0")
        return super().check(match)

    def _scale(self, match: Match) -> Any:
        if "scale" in match.bindings:
            return match.scale
        factor = match.factor
        if not is_number(factor) or factor == 0:
            return None
        return 6.0 if about(factor, 1 / 6) else 1 / factor

    def rewrite(self, op: Emitter, match: Match) -> Value:
        scale = float(self._scale(match))
        if (match.offset, match.top) == (3, 6) and about(scale, 6.0):
            return op.hardswish(match.x)
        return op.graphopt.hard_swish(match.x, float(match.offset), float(match.top), scale)


class HardSwishOfGate(_OneInput):
    """x * hardsigmoid(x) -> hardswish(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.mul(x, op.hardsigmoid(x))

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.hardswish(x)


class HardSigmoid(_OneInput):
    """clip(x * a + b, 0, 1) -> hardsigmoid(x) for a = 1/6, b = 1/2, else graphopt::hard_sigmoid"""

    def pattern(self, op: PatternOps, x: Any, a: Any, d: Any, b: Any) -> Any:
        return op.clamp(op.add(op.either(op.mul(x, a), op.div(x, d)), b), 0, 1)

    def check(self, match: Match) -> Verdict:
        a = self._slope(match)
        if a is None or not is_number(match.b):
            return match.fail("slope and offset are not numbers")
        return super().check(match)

    def _slope(self, match: Match) -> float | None:
        if "a" in match.bindings:
            return match.a if is_number(match.a) else None
        d = match.d
        return 1 / d if is_number(d) and d != 0 else None

    def rewrite(self, op: Emitter, match: Match) -> Value:
        a = self._slope(match)
        assert a is not None
        if about(a, 1 / 6) and match.b == 0.5:
            return op.hardsigmoid(match.x)
        return op.graphopt.hard_sigmoid(match.x, float(a), float(match.b))


class HardSigmoidOfClip(_OneInput):
    """clip(x + 3, 0, 6) / 6 -> hardsigmoid(x)"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return _scaled(op, op.clamp(op.add(x, 3), 0, 6), 1 / 6)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.hardsigmoid(x)
