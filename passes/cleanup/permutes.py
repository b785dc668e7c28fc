"""Permutations of axes: ``permute`` is the one form; neighbours become one, or none."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import axis_of, is_tensor, operands
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def permutation_of(result: Value) -> list[int] | None:
    """The axes of any permuting call as ``permute`` takes them, or None."""
    rank = result.rank
    bound = operands(result.node)
    packet = result.node.target.overloadpacket  # type: ignore[union-attr]
    order = list(range(rank))
    if packet is aten.permute:
        return [d % rank for d in bound["dims"]] if rank else []
    if packet in (aten.transpose, aten.swapaxes, aten.swapdims):
        first, second = (axis_of(a, rank) for a in list(bound.values())[1:3])
        if first is None or second is None:
            return None
        if rank:
            order[first], order[second] = order[second], order[first]
        return order
    if packet in (aten.t, aten.numpy_T):
        return order[::-1]
    if packet in (aten.mT, aten.adjoint) and rank >= 2:
        return [*order[:-2], rank - 1, rank - 2]
    return None


class CanonicalPermute(RewriteRule):
    """transpose, t, mT, swapaxes -> permute; axes counted from the front"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        names = ("transpose", "t", "numpy_T", "mT", "swapaxes", "swapdims", "adjoint", "permute")
        return op.any_of(names, x, ...)

    def check(self, match: Match) -> Verdict:
        order = permutation_of(match.result)
        if order is None or match.x.dtype.is_complex:
            return match.fail("its axes are not plain numbers, or it conjugates")
        if (
            match.result.node.target is aten.permute.default
            and list(operands(match.result.node)["dims"]) == order
        ):
            return match.fail("it is canonical already")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.permute(match.x, permutation_of(match.result))


class IdentityPermute(RewriteRule):
    """permute(x, [0, 1, 2]) -> x"""

    def pattern(self, op: PatternOps, x: Any, axes: Any) -> Any:
        return op.permute(x, axes)

    def check(self, match: Match) -> Verdict:
        rank = match.x.rank
        if [axis_of(a, rank) for a in match.axes] != list(range(rank)):
            return match.fail("it moves axes")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class PermuteOfPermute(RewriteRule):
    """permute(permute(x, a), b) -> permute(x, a[b])"""

    def pattern(self, op: PatternOps, x: Any, inner: Any, outer: Any) -> Any:
        return op.permute(op.shared(op.permute(x, inner)), outer)

    def check(self, match: Match) -> Verdict:
        return match.ok() if is_tensor(match.x) else match.fail("x is not a tensor")

    def rewrite(self, op: Emitter, match: Match) -> Value:
        rank = match.x.rank
        order = [match.inner[a] % rank for a in match.outer]
        return match.x if order == list(range(rank)) else op.permute(match.x, order)
