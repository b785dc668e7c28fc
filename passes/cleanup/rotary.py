"""Rotary position embedding, ``x * cos + rotate(x) * sin``, as one operator of the dialect.

Su et al. 2021 (arXiv 2104.09864) §3.4.2.  Hugging Face models pair channel ``i`` with ``i + D/2``;
the paper, and GPT-J, pair ``2i`` with ``2i + 1``.
"""

from __future__ import annotations

from typing import Any

from graphopt.passes.cleanup.facts import (
    MAX_INDEX,
    axis_of,
    is_floating,
    is_tensor,
    same_shape,
    same_size,
    same_type,
)
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule


def _angles_refusal(match: Match, width: Any) -> str | None:
    """Why ``cos`` and ``sin`` are not what the operator takes, or None."""
    x, cos, sin = match.x, match.cos, match.sin
    if not (is_floating(x) and is_tensor(cos) and is_tensor(sin)):
        return "x, cos and sin are not all tensors"
    if not (x.dtype == cos.dtype == sin.dtype):
        return "x, cos and sin have different dtypes"
    if not same_shape(cos.shape, sin.shape):
        return "cos and sin have different shapes"
    if cos.rank < 1 or cos.rank > x.rank or not same_size(cos.shape[-1], width):
        return "cos has not one entry a rotated channel"
    for mine, size in zip(reversed(cos.shape[:-1]), reversed(x.shape[:-1]), strict=False):
        if not (same_size(mine, 1) or same_size(mine, size)):
            return "cos does not broadcast to x"
    return None


def _range(axis: Any, start: Any, stop: Any, x: Value) -> tuple[int, int] | None:
    """What a slice of step 1 takes of the last axis, or None where it is another axis."""
    if axis_of(axis, x.rank) != x.rank - 1:
        return None
    size = x.shape[-1]
    start, stop = 0 if start is None else start, MAX_INDEX if stop is None else stop
    if not all(isinstance(v, int) for v in (start, stop, size)):
        return None
    return (
        max(0, start + size if start < 0 else start),
        min(size, stop + size if stop < 0 else stop),
    )


class RotateHalf(RewriteRule):
    """x * cos + cat(-x[D/2:], x[:D/2]) * sin -> graphopt::rotary_embedding(x, cos, sin)"""

    def pattern(
        self, op: PatternOps, x: Any, cos: Any, sin: Any, d1: Any, a1: Any, b1: Any, d2: Any, a2: Any,
        b2: Any, axis: Any,
    ) -> Any:  # fmt: skip
        turned = op.cat([op.neg(op.slice(x, d2, a2, b2, 1)), op.slice(x, d1, a1, b1, 1)], axis)
        return op.add(op.mul(x, cos), op.mul(turned, sin))

    def check(self, match: Match) -> Verdict:
        m = match
        if not is_floating(m.x) or m.x.rank < 1 or not same_type(m.x, m.result):
            return match.fail("x is not a floating-point tensor of the result's shape")
        problem = _angles_refusal(match, m.x.shape[-1])
        if problem is not None:
            return match.fail(problem)
        size = m.x.shape[-1]
        if not isinstance(size, int) or size % 2:
            return match.fail("the last axis has no two halves")
        if axis_of(m.axis, m.x.rank) != m.x.rank - 1:
            return match.fail("the halves are not joined along the last axis")
        if _range(m.d1, m.a1, m.b1, m.x) != (0, size // 2) or _range(m.d2, m.a2, m.b2, m.x) != (
            size // 2,
            size,
        ):
            return match.fail("the slices are not the two halves of the last axis")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, cos: Value, sin: Value) -> Value:
        return op.graphopt.rotary_embedding(x, cos, sin, False, 0)


class RotateHalfSplit(RewriteRule):
    """cat(a * cos - b * sin, b * cos + a * sin) of the halves a, b of x -> rotary_embedding"""

    def pattern(
        self, op: PatternOps, x: Any, cos: Any, sin: Any, a: Any, b: Any,
        d1: Any, a1: Any, b1: Any, d2: Any, a2: Any, b2: Any, axis: Any,
    ) -> Any:  # fmt: skip
        first = op.named("a", op.slice(x, d1, a1, b1, 1))
        second = op.named("b", op.slice(x, d2, a2, b2, 1))
        real = op.sub(op.mul(first, cos), op.mul(second, sin))
        imaginary = op.add(op.mul(b, cos), op.mul(a, sin))
        return op.cat([real, imaginary], axis)

    def check(self, match: Match) -> Verdict:
        m = match
        if not is_floating(m.x) or m.x.rank < 1 or not same_type(m.x, m.result):
            return match.fail("x is not a floating-point tensor of the result's shape")
        size = m.x.shape[-1]
        if not isinstance(size, int) or size % 2:
            return match.fail("the last axis has no two halves")
        if axis_of(m.axis, m.x.rank) != m.x.rank - 1:
            return match.fail("the halves are not joined along the last axis")
        problem = _angles_refusal(match, size // 2)
        if problem is not None:
            return match.fail(problem)
        if _range(m.d1, m.a1, m.b1, m.x) != (0, size // 2) or _range(m.d2, m.a2, m.b2, m.x) != (
            size // 2,
            size,
        ):
            return match.fail("the slices are not the two halves of the last axis")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, cos: Value, sin: Value) -> Value:
        return op.graphopt.rotary_embedding(x, cos, sin, False, 0)


class RotatePairs(RewriteRule):
    """x * cos + stack(-x[1::2], x[0::2]) * sin -> rotary_embedding(x, cos, sin, interleaved)"""

    def pattern(
        self, op: PatternOps, x: Any, cos: Any, sin: Any, d1: Any, a1: Any, b1: Any, d2: Any, a2: Any,
        b2: Any, axis: Any,
    ) -> Any:  # fmt: skip
        even, odd = op.slice(x, d1, a1, b1, 2), op.slice(x, d2, a2, b2, 2)
        pairs = op.either(
            op.stack([op.neg(odd), even], axis),
            op.cat([op.unsqueeze(op.neg(odd), -1), op.unsqueeze(even, -1)], axis),
        )
        turned = op.either(op.flatten(pairs, ...), op.reshape(pairs, op.any))  # to the shape of x: see check
        return op.add(op.mul(x, cos), op.mul(turned, sin))

    def check(self, match: Match) -> Verdict:
        m = match
        if not is_floating(m.x) or m.x.rank < 1 or not same_type(m.x, m.result):
            return match.fail("x is not a floating-point tensor of the result's shape")
        problem = _angles_refusal(match, m.x.shape[-1])
        if problem is not None:
            return match.fail(problem)
        size = m.x.shape[-1]
        if not isinstance(size, int) or size % 2:
            return match.fail("the channels are not pairs")
        if axis_of(m.axis, m.x.rank + 1) != m.x.rank:
            return match.fail("the pairs are not joined along the last axis")
        if _range(m.d1, m.a1, m.b1, m.x) != (0, size) or _range(m.d2, m.a2, m.b2, m.x) != (1, size):
            return match.fail("the slices are not the even and odd channels")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, cos: Value, sin: Value) -> Value:
        return op.graphopt.rotary_embedding(x, cos, sin, True, 0)


class PartialRotary(RewriteRule):
    """cat(rotary_embedding(x[:R]), x[R:]) -> rotary_embedding(x, rotary_dim=R)"""

    def pattern(
        self, op: PatternOps, x: Any, cos: Any, sin: Any, pairs: Any, d1: Any, a1: Any, b1: Any, d2: Any,
        a2: Any, b2: Any, axis: Any,
    ) -> Any:  # fmt: skip
        import graphopt.dialect.rotary  # noqa: F401  registers the operator

        turned = op.graphopt.rotary_embedding(op.slice(x, d1, a1, b1, 1), cos, sin, pairs, 0)
        return op.cat([turned, op.slice(x, d2, a2, b2, 1)], axis)

    def check(self, match: Match) -> Verdict:
        m = match
        if not same_type(m.x, m.result) or axis_of(m.axis, m.x.rank) != m.x.rank - 1:
            return match.fail("the parts are not joined along the last axis")
        first, second = _range(m.d1, m.a1, m.b1, m.x), _range(m.d2, m.a2, m.b2, m.x)
        if first is None or second is None or first[0] != 0 or first[1] != second[0]:
            return match.fail("the slices are not the two parts of the last axis")
        if second[1] != m.x.shape[-1]:
            return match.fail("the slices are not the two parts of the last axis")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        m = match
        first = _range(m.d1, m.a1, m.b1, m.x)
        assert first is not None
        return op.graphopt.rotary_embedding(m.x, m.cos, m.sin, m.pairs, first[1])
