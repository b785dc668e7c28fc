"""Operators that do nothing here: dropout in inference, casts to the own dtype, copies, ``x + 0``."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import axis_of, is_floating, is_tensor, is_trainable, same_shape, same_type
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def _unchanged(match: Match) -> Verdict:
    """The result has the dtype and shape of ``x``: then an arithmetic identity is one here too."""
    if not is_tensor(match.x):
        return match.fail("the operand is not a tensor")
    if match.x.dtype != match.result.dtype:
        return match.fail(f"the result is {match.result.dtype}, the operand {match.x.dtype}")
    if not same_shape(match.x.shape, match.result.shape):
        return match.fail("the other operand broadcasts the value")
    return match.ok()


class InferenceDropout(RewriteRule):
    """dropout(x, p, train=False) -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        names = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
        return op.any_of(names, x, op.any, False)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class NoDropout(RewriteRule):
    """dropout(x, 0, train=True) -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.any_of(("dropout", "feature_dropout"), x, 0.0, True)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class Copy(RewriteRule):
    """alias, clone, contiguous, lift_fresh_copy: a pure graph needs no copies"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.any_of(("alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy", "lift"), x, ...)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class Detach(RewriteRule):
    """detach(x) -> x; for inference only, it lets gradients through"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.any_of(("detach", "detach_copy"), x)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class SameDtypeCast(RewriteRule):
    """to(x, dtype of x) -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.any_of(("to", "type_as", "_cast_Float", "_cast_Half", "_cast_Double", "_cast_Long"), x, ...)

    def check(self, match: Match) -> Verdict:
        if match.x.fake.device != match.result.fake.device:
            return match.fail("the cast moves the tensor to another device")
        return _unchanged(match)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class LosslessRoundTrip(RewriteRule):
    """to(to(x, wider), d) -> to(x, d): the wider dtype holds every value of x"""

    def pattern(self, op: PatternOps, x: Any, inner: Any) -> Any:
        return op.to(op.shared(op.named("inner", op.to(x, ...))), ...)

    def check(self, match: Match) -> Verdict:
        if not (match.x.fake.device == match.inner.fake.device == match.result.fake.device):
            return match.fail("a cast moves the tensor to another device")
        if not _holds(match.inner.dtype, match.x.dtype):
            return match.fail(f"{match.inner.dtype} does not hold every {match.x.dtype}")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        if match.x.dtype == match.result.dtype:
            return match.x
        return op.overload(torch.ops.aten.to.dtype, match.x, match.result.dtype)


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether every value of ``narrow`` is one of ``wide``."""
    if wide == narrow:
        return True
    if wide.is_complex or narrow.is_complex or wide == torch.bool:
        return False
    if narrow == torch.bool:
        return True
    if wide.is_floating_point and narrow.is_floating_point:
        return torch.promote_types(wide, narrow) == wide
    if not wide.is_floating_point and not narrow.is_floating_point:
        a, b = torch.iinfo(wide), torch.iinfo(narrow)
        return a.min <= b.min and b.max <= a.max
    if wide.is_floating_point:  # integers up to the mantissa are exact
        return torch.iinfo(narrow).max <= 2 / torch.finfo(wide).eps
    return False


class AddZero(RewriteRule):
    """x + 0 -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.add(x, 0)

    def check(self, match: Match) -> Verdict:
        return _unchanged(match)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class SubtractZero(RewriteRule):
    """x - 0 -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.sub(x, 0)

    check = AddZero.check

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class UnitFactor(RewriteRule):
    """x * 1, x ** 1 -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.either(op.mul(x, 1), op.pow(x, 1))

    check = AddZero.check

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class UnitDivisor(RewriteRule):
    """x / 1 -> x for floating x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.div(x, 1)

    def check(self, match: Match) -> Verdict:
        return _unchanged(match) if is_floating(match.x) else match.fail("x is not floating point")

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class UniformIdentity(RewriteRule):
    """x + zeros, x * ones -> x for constant tensors of several elements"""

    def pattern(self, op: PatternOps, x: Any, c: Any) -> Any:
        return op.either(op.add(x, c), op.mul(x, c), op.sub(x, c), op.div(x, c))

    def check(self, match: Match) -> Verdict:
        c = match.c
        if not (isinstance(c, Value) and c.is_constant) or is_trainable(c):
            return match.fail("the other operand is not a fixed constant")
        if not is_floating(match.x) or c.tensor.numel() == 0:
            return match.fail("x is not floating point")
        packet = match.result.node.target.overloadpacket  # type: ignore[union-attr]
        neutral = 0 if packet in (torch.ops.aten.add, torch.ops.aten.sub) else 1
        if not bool((c.tensor == neutral).all()):
            return match.fail(f"the constant is not {neutral} everywhere")
        return _unchanged(match)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class Repeated(RewriteRule):
    """relu(relu(x)), abs(abs(x)), ceil(ceil(x)) ... -> once"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        same = ("relu", "abs", "ceil", "floor", "round", "trunc", "sign", "relu6")
        return op.either(*(getattr(op, n)(op.named("x", op.shared(getattr(op, n)(op.any)))) for n in same))

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class UnboundedClamp(RewriteRule):
    """clamp(x, None, None) or with infinite bounds -> x"""

    def pattern(self, op: PatternOps, x: Any, low: Any, high: Any) -> Any:
        return op.clamp(x, low, high)

    def check(self, match: Match) -> Verdict:
        low, high = match.low, match.high
        open_below = low is None or (isinstance(low, float) and low == -float("inf"))
        open_above = high is None or (isinstance(high, float) and high == float("inf"))
        if not (open_below and open_above):
            return match.fail("the clamp has a bound")
        return _unchanged(match)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class SingleCat(RewriteRule):
    """cat([x]) -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        return op.any_of(("cat", "concat", "concatenate"), [x], ...)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class EmptyInCat(RewriteRule):
    """cat([x, empty, y], d) -> cat([x, y], d)"""

    def pattern(self, op: PatternOps, parts: Any, axis: Any) -> Any:
        return op.any_of(("cat", "concat", "concatenate"), parts, axis)

    def check(self, match: Match) -> Verdict:
        kept = self._kept(match)
        if len(kept) == len(match.parts):
            return match.fail("no part is empty")
        if not kept:
            return match.fail("every part is empty")
        kinds = torch.empty(0, dtype=kept[0].dtype)
        for part in kept[1:]:
            kinds = torch.empty(0, dtype=torch.promote_types(kinds.dtype, part.dtype))
        if kinds.dtype != match.result.dtype:
            return match.fail("the empty part decides the dtype")
        return match.ok()

    def _kept(self, match: Match) -> list[Value]:
        axis = axis_of(match.axis, match.result.rank)
        return [p for p in match.parts if not _is_empty(p, axis, match.result.rank)]

    def rewrite(self, op: Emitter, match: Match) -> Value:
        kept = self._kept(match)
        return kept[0] if len(kept) == 1 else op.cat(kept, match.axis)


def _is_empty(part: Value, axis: int | None, rank: int) -> bool:
    """Adds nothing to a cat: size 0 along its axis, or torch's legacy empty vector."""
    if part.rank == 1 and rank != 1:
        return isinstance(part.shape[0], int) and part.shape[0] == 0
    return axis is not None and isinstance(part.shape[axis], int) and part.shape[axis] == 0


class FactoryLike(RewriteRule):
    """x.new_ones(size), new_zeros, new_full -> ones(size): of x only the dtype counts"""

    def pattern(self, op: PatternOps, x: Any, size: Any, fill: Any) -> Any:
        return op.either(op.any_of(("new_ones", "new_zeros"), x, size, ...), op.new_full(x, size, fill, ...))

    def check(self, match: Match) -> Verdict:
        if isinstance(match.bindings.get("fill"), Value):
            return match.fail("the value is computed")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        kind = {"dtype": match.result.dtype, "device": match.result.fake.device}
        packet = match.result.node.target.overloadpacket  # type: ignore[union-attr]
        if packet is aten.new_full:
            return op.full(match.size, match.fill, **kind)
        return op.ones(match.size, **kind) if packet is aten.new_ones else op.zeros(match.size, **kind)


class AndTrue(RewriteRule):
    """x & True -> x for booleans"""

    def pattern(self, op: PatternOps, x: Any, c: Any) -> Any:
        names = ("bitwise_and", "logical_and", "__and__")
        return op.either(op.any_of(names, x, c), op.any_of(names, c, x))

    def check(self, match: Match) -> Verdict:
        c = match.c
        if not (isinstance(c, Value) and c.is_constant and c.dtype == torch.bool and bool(c.tensor.all())):
            return match.fail("the other operand is not the constant true")
        return _unchanged(match)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x


class SameOperands(RewriteRule):
    """maximum(x, x), minimum(x, x), logical_and(x, x) -> x"""

    def pattern(self, op: PatternOps, x: Any) -> Any:
        names = ("maximum", "minimum", "bitwise_and", "bitwise_or", "__and__", "__or__")
        return op.any_of(names, x, x)

    def check(self, match: Match) -> Verdict:
        return match.ok() if same_type(match.x, match.result) else match.fail("x is not a tensor")

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return x
