"""Scales and shifts by constants next to a convolution or linear layer go into its weights.

Learned per-layer scales (PP-LCNetV3's affine blocks) and what is left of normalisations come as
``conv -> mul constant -> add constant``.
"""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.facts import call_again, is_floating, is_number, same_shape
from graphopt.passes.cleanup.weights import Layer, fits, per_channel, rebuilt, refusal, weighted
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def _constant_refusal(match: Match) -> str | None:
    """Why ``match.c`` is not a constant that may go into the weights, or None."""
    c = match.c
    if isinstance(c, Value):
        if not c.is_constant:
            return "the other operand is not a constant"
        if not c.dtype.is_floating_point:
            return "the constant is not floating point"
    elif not is_number(c):
        return "the other operand is not a number"
    return None


def _vector(match: Match, axis: int, rank: int, channels: int) -> torch.Tensor | None:
    """``match.c`` as one float64 number a channel."""
    if isinstance(match.c, Value):
        return per_channel(match.c.tensor, axis, rank, channels)
    return torch.full((channels,), float(match.c), dtype=torch.float64)


class _AfterLayer(RewriteRule):
    """Common to rules on ``layer -> arithmetic with a constant``."""

    def check(self, match: Match) -> Verdict:
        problem = (refusal(match) if isinstance(match.w, Value) else "no weight") or _constant_refusal(match)
        if problem is not None:
            return match.fail(problem)
        if match.product.dtype != match.result.dtype or not same_shape(
            match.product.shape, match.result.shape
        ):
            return match.fail("the constant changes the dtype or shape")
        if self._constant(match) is None:
            return match.fail("the constant is not one number a channel")
        if not all(t is None or fits(t, match.w.dtype) for t in self._folded(match)):
            return match.fail(f"the folded weights do not fit {match.w.dtype}")
        return match.ok()

    def _constant(self, match: Match) -> torch.Tensor | None:
        layer, rank = Layer(match.product.node), match.product.rank
        return _vector(match, layer.channel_axis(rank), rank, layer.out_channels(match.w.tensor))

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        raise NotImplementedError

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return rebuilt(op, match, *self._folded(match))


class ScaleAfterLayer(_AfterLayer):
    """conv(x, w, b) * c, / c -> conv(x, w * c, b * c)"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any, c: Any) -> Any:
        layer = weighted(op, x, w, b)
        return op.either(op.mul(layer, c), op.div(layer, c))

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        scale = self._constant(match)
        assert scale is not None
        if match.result.node.target.overloadpacket is aten.div:  # type: ignore[union-attr]
            scale = 1.0 / scale
        weight = Layer(match.product.node).scaled_outputs(match.w.tensor.detach().double(), scale)
        return weight, None if match.b is None else match.b.tensor.detach().double() * scale


class ShiftAfterLayer(_AfterLayer):
    """conv(x, w, b) + c, - c -> conv(x, w, b + c)"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any, c: Any) -> Any:
        layer = weighted(op, x, w, b)
        return op.either(op.add(layer, c), op.sub(layer, c))

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        shift = self._constant(match)
        assert shift is not None
        if match.result.node.target.overloadpacket is aten.sub:  # type: ignore[union-attr]
            shift = -shift
        if match.b is not None:
            shift = shift + match.b.tensor.detach().double()
        return match.w.tensor.detach().double(), shift


class _BeforeLayer(RewriteRule):
    """Common to rules on ``arithmetic with a constant -> layer``."""

    def check(self, match: Match) -> Verdict:
        problem = (refusal(match) if isinstance(match.w, Value) else "no weight") or _constant_refusal(match)
        if problem is not None:
            return match.fail(problem)
        if not is_floating(match.x) or match.x.is_constant or match.x.dtype != match.product.dtype:
            return match.fail("the input is not of the layer's dtype")
        if match.y.dtype != match.x.dtype or not same_shape(match.y.shape, match.x.shape):
            return match.fail("the constant changes the dtype or shape")
        if self._constant(match) is None:
            return match.fail("the constant is not one number a channel")
        problem = self._padding_refusal(match)
        if problem is not None:
            return match.fail(problem)
        if not all(t is None or fits(t, match.w.dtype) for t in self._folded(match)):
            return match.fail(f"the folded weights do not fit {match.w.dtype}")
        return match.ok()

    def _padding_refusal(self, match: Match) -> str | None:
        return None

    def _constant(self, match: Match) -> torch.Tensor | None:
        layer, rank = Layer(match.product.node), match.x.rank
        return _vector(match, layer.channel_axis(rank), rank, layer.in_channels(match.w.tensor))

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        raise NotImplementedError

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return rebuilt(op, match, *self._folded(match), x=match.x)


class ScaleBeforeLayer(_BeforeLayer):
    """conv(x * c, w, b) -> conv(x, w * c, b); zeros of the padding stay zeros"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any, c: Any) -> Any:
        y = op.either(op.named("y", op.mul(x, c)), op.named("y", op.div(x, c)))
        return weighted(op, y, w, b)

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        scale = self._constant(match)
        assert scale is not None
        if match.y.node.target.overloadpacket is aten.div:
            scale = 1.0 / scale
        weight = Layer(match.product.node).scaled_inputs(match.w.tensor.detach().double(), scale)
        return weight, None if match.b is None else match.b.tensor.detach().double()


class ShiftBeforeLayer(_BeforeLayer):
    """conv(x + c, w, b) -> conv(x, w, b') without padding"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any, c: Any) -> Any:
        y = op.either(op.named("y", op.add(x, c)), op.named("y", op.sub(x, c)))
        return weighted(op, y, w, b)

    def _padding_refusal(self, match: Match) -> str | None:
        return None if Layer(match.product.node).is_unpadded else "padding is not shifted"

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor | None]:
        shift = self._constant(match)
        assert shift is not None
        if match.y.node.target.overloadpacket is aten.sub:
            shift = -shift
        weight = match.w.tensor.detach().double()
        bias = Layer(match.product.node).response_to(weight, shift)
        return weight, bias if match.b is None else bias + match.b.tensor.detach().double()


class ScaleThroughShift(RewriteRule):
    """conv(x * a + c, w) -> conv((x + c / a) * a, w), whose factor goes into the weights"""

    def pattern(self, op: PatternOps, x: Any, w: Any, b: Any, a: Any, c: Any) -> Any:
        return weighted(op, op.named("y", op.add(op.named("scaled", op.mul(x, a)), c)), w, b)

    def check(self, match: Match) -> Verdict:
        problem = refusal(match) if isinstance(match.w, Value) else "no weight"
        if problem is not None:
            return match.fail(problem)
        if not is_floating(match.x) or match.x.is_constant:
            return match.fail("x is not a computed floating-point tensor")
        a, c = match.number("a"), match.number("c")
        if a is None or c is None:
            return match.fail("factor and shift are not numbers")
        if not same_shape(match.y.shape, match.x.shape) or match.y.dtype != match.x.dtype:
            return match.fail("a constant changes the dtype or shape")
        if not (abs(a) > 1e-6 and abs(c) <= 1024 * abs(a)):  # far from overflow in half precision
            return match.fail("the quotient of shift and factor is too large")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        a, c = match.number("a"), match.number("c")
        assert a is not None and c is not None
        return call_again(op, match.product.node, input=op.mul(op.add(match.x, c / a), a))
