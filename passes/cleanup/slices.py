"""Slices that take everything, or say "to the end" with a baked integer."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import MAX_INDEX, axis_of, same_shape, same_size, size_of
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


class FullSlice(RewriteRule):
    """slice(x, d, 0, end) -> x where the end is not before the end of x"""

    def pattern(self, op: PatternOps, x: Any, axis: Any, start: Any, stop: Any) -> Any:
        return op.slice(x, axis, start, stop, 1)

    def check(self, match: Match) -> Verdict:
        if not same_shape(match.x.shape, match.result.shape):
            return match.fail("it takes a part")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class SliceToEnd(RewriteRule):
    """slice(x, d, a, size of x) -> slice(x, d, a, end)"""

    def pattern(self, op: PatternOps, x: Any, axis: Any, start: Any, stop: Any, step: Any) -> Any:
        return op.slice(x, axis, start, stop, step)

    def check(self, match: Match) -> Verdict:
        axis = axis_of(match.axis, match.x.rank)
        if axis is None or not isinstance(match.step, int) or match.step < 1:
            return match.fail("axis or step is not a plain number")
        stop = match.stop
        if isinstance(stop, int) and stop == MAX_INDEX:
            return match.fail("it goes to the end already")
        size, end = match.x.shape[axis], size_of(stop)
        if (
            end is None
            or same_size(size, end)
            or (isinstance(size, int) and isinstance(end, int) and end > size)
        ):
            return match.ok()
        return match.fail("it stops before the end")

    def rewrite(self, op: Emitter, match: Match) -> Value:
        start = 0 if match.start is None else match.start
        return op.overload(aten.slice.Tensor, match.x, match.axis, start, MAX_INDEX, match.step)
