"""Products with a constant matrix as ``linear``: what ONNX's MatMul, Gemm and functional exports hold."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import is_floating, same_shape, same_size
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def _is_weight(value: Any) -> bool:
    """A constant, or a constant with its axes exchanged."""
    if not isinstance(value, Value):
        return False
    node = value.node
    if node.target in (aten.permute.default, aten.t.default, aten.transpose.int):
        node = node.args[0]  # type: ignore[assignment]
    return node.op == "get_attr"


class MatmulByConstant(RewriteRule):
    """matmul(x, W) -> linear(x, permute(W, [1, 0])); the permute is folded, or meets another"""

    def pattern(self, op: PatternOps, x: Any, w: Any) -> Any:
        return op.any_of(("matmul", "mm"), x, w)

    def check(self, match: Match) -> Verdict:
        if not _is_weight(match.w) or match.w.rank != 2:
            return match.fail("the second operand is not a constant matrix")
        if not is_floating(match.x) or match.x.rank < 1 or match.x.is_constant:
            return match.fail("the first operand is not a computed floating-point tensor")
        if match.x.dtype != match.w.dtype:
            return match.fail("the operands have different dtypes")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, w: Value) -> Value:
        return op.linear(x, op.permute(w, [1, 0]))


class AddmmByConstant(RewriteRule):
    """addmm(b, x, W) -> linear(x, permute(W, [1, 0]), b)"""

    def pattern(self, op: PatternOps, b: Any, x: Any, w: Any) -> Any:
        return op.addmm(b, x, w)

    def check(self, match: Match) -> Verdict:
        if not _is_weight(match.w) or not is_floating(match.x):
            return match.fail("the second factor is not a constant matrix")
        if not isinstance(match.b, Value) or not match.b.is_constant:
            return match.fail("the summand is not a constant")
        if match.b.rank != 1 or not same_shape(match.b.shape, match.result.shape[-1:]):
            return match.fail("the summand is not one number an output")
        return match.ok()

    def rewrite(self, op: Emitter, b: Value, x: Value, w: Value) -> Value:
        return op.linear(x, op.permute(w, [1, 0]), b)


class LinearBias(RewriteRule):
    """linear(x, W) + b -> linear(x, W, b) for a constant vector b"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any) -> Any:
        return op.add(op.linear(x, w, None), b)

    def check(self, match: Match) -> Verdict:
        b, y = match.b, match.result
        if not isinstance(b, Value) or not b.is_constant:
            return match.fail("the summand is not a constant")
        if b.dtype != y.dtype or match.x.dtype != y.dtype:
            return match.fail("the summand has another dtype")
        if b.rank > y.rank or b.rank < 1 or not same_shape(b.shape[-1:], y.shape[-1:]):
            return match.fail("the summand is not one number an output")
        if any(size != 1 for size in b.shape[:-1]):
            return match.fail("the summand is not one number an output")
        if not same_shape(match.x.shape[:-1], y.shape[:-1]):
            return match.fail("the summand adds axes")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, w: Value, b: Value) -> Value:
        return op.linear(x, w, b if b.rank == 1 else op.reshape(b, [-1]))


class BatchedMatmul(RewriteRule):
    """reshape(bmm(reshape(a), reshape(b))) -> matmul(a, b) where the batch axes are only merged

    So torch decomposes a matmul of more than three axes.
    """

    def pattern(self, op: PatternOps, a: Any, b: Any) -> Any:
        return op.reshape(op.bmm(op.reshape(a, op.any), op.reshape(b, op.any)), op.any)

    def check(self, match: Match) -> Verdict:
        a, b, y = match.a, match.b, match.result
        if not (a.dtype == b.dtype == y.dtype and a.rank == b.rank == y.rank and y.rank >= 3):
            return match.fail("dtypes or ranks differ")
        if not (same_shape(a.shape[:-2], y.shape[:-2]) and same_shape(b.shape[:-2], y.shape[:-2])):
            return match.fail("the batch axes change")
        if not same_shape([a.shape[-2], b.shape[-1]], y.shape[-2:]) or not same_size(
            a.shape[-1], b.shape[-2]
        ):
            return match.fail("the axes of the matrices change")
        return match.ok()

    def rewrite(self, op: Emitter, a: Value, b: Value) -> Value:
        return op.matmul(a, b)


class LinearOverRows(RewriteRule):
    """reshape(linear(reshape(x, [-1, K]), W, b), [..., N]) -> linear(x, W, b)"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any) -> Any:
        rows = op.any_of(("reshape", "flatten"), x, ...)
        return op.reshape(op.linear(rows, w, b), op.any)

    def check(self, match: Match) -> Verdict:
        x, y = match.x, match.result
        if x.rank != y.rank or x.dtype != y.dtype or not same_shape(x.shape[:-1], y.shape[:-1]):
            return match.fail("the leading axes change")
        if not same_size(x.shape[-1], match.w.shape[-1]) or not same_size(y.shape[-1], match.w.shape[0]):
            return match.fail("the last axis changes")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value, w: Value, b: Value | None) -> Value:
        return op.linear(x, w, b)
