"""Reshapes: one form, no baked integers where -1 will do, and as few as possible.

Later passes cut channels and heads out of weights.  ``reshape(x, [2, 197, 12, 64])`` breaks when
twelve heads become nine, ``reshape(x, [2, 197, -1, 64])`` does not; and with symbolic sizes -1 also
spares the arithmetic that computes a size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy
import torch

from graphopt.passes.cleanup.facts import axis_of, is_tensor, same_shape, same_size, size_of
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def _inferred_axis(before: Sequence[Any], after: Sequence[Any]) -> int | None:
    """The output axis to write as -1, or None.

    The size that takes most arithmetic to say; where all symbolic sizes are plain symbols, the
    first number that the reshape changes, counted after the axes that stay as they are at both ends.
    """
    if any(isinstance(s, int) and s == 0 for s in (*before, *after)) or not after:
        return None
    hardest = max(range(len(after)), key=lambda i: (_cost(after[i]), -i))
    if _cost(after[hardest]) > 1:
        return hardest
    changed = _changed_axes(before, after)
    numbers = [i for i in changed if isinstance(after[i], int)]
    return next(iter(numbers or changed), None)


def _cost(size: Any) -> int:
    """How many operations a symbolic size takes."""
    return 0 if isinstance(size, int) else 1 + int(size.node.expr.count_ops())


def _changed_axes(before: Sequence[Any], after: Sequence[Any]) -> list[int]:
    """Output axes left when equal leading and trailing ones are taken away."""
    start = 0
    while start < min(len(before), len(after)) and same_size(before[start], after[start]):
        start += 1
    stop = 0
    while stop < min(len(before), len(after)) - start and same_size(before[-1 - stop], after[-1 - stop]):
        stop += 1
    return list(range(start, len(after) - stop))


def _inference_agrees(x: torch.Tensor, shape: Sequence[Any], axis: int) -> bool:
    """Whether a reshape of ``x`` with -1 at ``axis`` is known to give ``shape``."""
    others: Any = 1
    for i, size in enumerate(shape):
        if i != axis:
            others = others * size
    return same_size(others * shape[axis], _numel(x.shape)) and same_size(
        _numel(x.shape) // others, shape[axis]
    )


def _numel(shape: Sequence[Any]) -> Any:
    total: Any = 1
    for size in shape:
        total = total * size
    return total


def regroups(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether a reshape only merges groups of axes and splits single ones, where sizes are symbolic.

    torch reshapes ``[s, 12]`` to ``[3, 4 * s]`` axis by axis and asks on the way whether 3 divides
    ``s``: the result would be right for some inputs only.
    """
    left = [s for s in before if not same_size(s, 1)]
    right = [s for s in after if not same_size(s, 1)]
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while not same_size(_numel(a), _numel(b)):
            grow = _smaller(_numel(a), _numel(b))
            if grow == "left" and left:
                a.append(left.pop(0))
            elif grow == "right" and right:
                b.append(right.pop(0))
            else:
                return False
        if not all(isinstance(s, int) for s in (*a, *b)) and len(a) > 1 and len(b) > 1:
            return False
    return not left and not right


def _smaller(a: Any, b: Any) -> str | None:
    """Which of two products divides the other, where that is known."""
    quotient = sympy.cancel(_expression(a) / _expression(b))
    if quotient.is_number:
        return "left" if quotient < 1 else "right"
    if sympy.denom(quotient) == 1:
        return "right"
    return "left" if sympy.numer(quotient) == 1 else None


def _expression(size: Any) -> sympy.Expr:
    return sympy.Integer(size) if isinstance(size, int) else size.node.expr


class CanonicalReshape(RewriteRule):
    """view, _unsafe_view, reshape -> reshape with -1 for one size"""

    def pattern(self, op: PatternOps, x: Any, shape: Any) -> Any:
        return op.reshape(x, shape)

    def check(self, match: Match) -> Verdict:
        if not isinstance(match.shape, list):
            return match.fail("it reinterprets the dtype")
        new = self._shape(match)
        old = match.shape
        if match.result.node.target is aten.reshape.default and len(new) == len(old):
            if all(
                a is b or (isinstance(a, int) and a == b) or a == b for a, b in zip(new, old, strict=True)
            ):
                return match.fail("it is canonical already")
        return match.ok()

    def _shape(self, match: Match) -> list[Any]:
        old = match.shape
        sizes = match.result.shape
        if any(isinstance(s, int) and s == -1 for s in old):
            written = [s if isinstance(s, int) and s == -1 else _literal(s) for s in old]
            at = written.index(-1)
            if not isinstance(sizes[at], int) or sizes[at] == 0 or all(_cost(s) <= 1 for s in sizes):
                return written
            written[at] = sizes[at]  # -1 serves better where a size takes arithmetic
            return self._with_inferred(match, written)
        return self._with_inferred(match, [_literal(s) for s in old])

    def _with_inferred(self, match: Match, written: list[Any]) -> list[Any]:
        before, sizes = match.x.shape, match.result.shape
        axis = _inferred_axis(before, sizes)
        if axis is None or not _inference_agrees(match.x.fake, sizes, axis):
            return written
        return [-1 if i == axis else s for i, s in enumerate(written)]

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.overload(aten.reshape.default, match.x, self._shape(match))


def _literal(size: Any) -> Any:
    """A size operand; a number where a node is known to have a fixed value."""
    known = size_of(size)
    return known if isinstance(known, int) else size


class IdentityReshape(RewriteRule):
    """reshape(x, shape of x) -> x; also expand, flatten, squeeze that change nothing"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        names = ("reshape", "flatten", "unflatten", "expand", "expand_as", "squeeze", "reshape_as", "view_as",
                 "broadcast_to", "repeat", "tile")  # fmt: skip
        return op.any_of(names, x, ...)

    def check(self, match: Match) -> Verdict:
        if match.x.dtype != match.result.dtype:
            return match.fail("it reinterprets the dtype")
        if not same_shape(match.x.shape, match.result.shape):
            return match.fail("it changes the shape")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class ReshapeOfReshape(RewriteRule):
    """reshape(reshape(x, a), b) -> reshape(x, b); the inner may be flatten, squeeze or unsqueeze"""

    def pattern(self, op: PatternOps, x: Any, shape: Any) -> Any:
        names = ("reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
        return op.reshape(op.shared(op.any_of(names, x, ...)), shape)

    def check(self, match: Match) -> Verdict:
        if not isinstance(match.shape, list) or match.x.dtype != match.result.dtype:
            return match.fail("it reinterprets the dtype")
        if any(isinstance(s, int) and s == 0 for s in match.x.shape):
            return match.fail("the tensor is empty")
        if not regroups(match.x.shape, match.result.shape):
            return match.fail("symbolic sizes are merged and split at once")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.overload(aten.reshape.default, match.x, match.shape)


class FlattenOfReshape(RewriteRule):
    """flatten(reshape(x, a), 1) -> flatten(x, 1) where the leading axes stay"""

    def pattern(self, op: PatternOps, x: Any, start: Any, stop: Any) -> Any:
        names = ("reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
        return op.flatten(op.shared(op.any_of(names, x, ...)), start, stop)

    def check(self, match: Match) -> Verdict:
        if match.x.dtype != match.result.dtype or not match.x.rank:
            return match.fail("it reinterprets the dtype")
        start, rank = match.start, match.result.rank
        if axis_of(start, rank) != rank - 1 or rank > match.x.rank:
            return match.fail("it does not flatten all trailing axes")
        if not same_shape(match.x.shape[: rank - 1], match.result.shape[:-1]):
            return match.fail("the leading axes change")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.flatten(match.x, match.result.rank - 1, -1)


class SqueezeOfUnsqueeze(RewriteRule):
    """squeeze(unsqueeze(x, d), d) -> x"""

    def pattern(self, op: PatternOps, x: Any, inner: Any, outer: Any) -> Any:
        return op.squeeze(op.shared(op.unsqueeze(x, inner)), outer)

    def check(self, match: Match) -> Verdict:
        rank = match.x.rank + 1
        outer = match.outer if isinstance(match.outer, list) else [match.outer]
        if len(outer) != 1 or axis_of(outer[0], rank) != axis_of(match.inner, rank):
            return match.fail("they act on different axes")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class UnsqueezeOfSqueeze(RewriteRule):
    """unsqueeze(squeeze(x, d), d) -> x where d has size 1"""

    def pattern(self, op: PatternOps, x: Any, outer: Any) -> Any:
        return op.unsqueeze(op.shared(op.squeeze(x, ...)), outer)

    def check(self, match: Match) -> Verdict:
        if not is_tensor(match.x) or not same_shape(match.x.shape, match.result.shape):
            return match.fail("the shape is not restored")
        return match.ok()

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class CanonicalExpand(RewriteRule):
    """expand(x, sizes) -> -1 where the size of x stays"""

    def pattern(self, op: PatternOps, x: Any, sizes: Any) -> Any:
        return op.expand(x, sizes, ...)

    def check(self, match: Match) -> Verdict:
        if self._sizes(match) == match.sizes:
            return match.fail("it is canonical already")
        return match.ok()

    def _sizes(self, match: Match) -> list[Any]:
        new = len(match.sizes) - match.x.rank
        own = match.x.shape
        return [
            -1 if i >= new and same_size(own[i - new], match.result.shape[i]) else _literal(size)
            for i, size in enumerate(match.sizes)
        ]

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.expand(match.x, self._sizes(match))


class ExpandOfExpand(RewriteRule):
    """expand(expand(x, a), b) -> expand(x, b)"""

    def pattern(self, op: PatternOps, x: Any, inner: Any, outer: Any) -> Any:
        return op.expand(op.shared(op.expand(x, inner, ...)), outer, ...)

    def check(self, match: Match) -> Verdict:
        for mine, size in zip(reversed(match.inner), reversed(match.outer), strict=False):
            if isinstance(size, int) and size == -1 and not (isinstance(mine, int) and mine == -1):
                return match.fail("the outer expand keeps a size of the inner one")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.expand(match.x, match.outer)
