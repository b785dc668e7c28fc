"""BatchNorm with fixed statistics is one scale and shift a channel: folded into the layer next to it.

Jacob et al. 2018 (arXiv 1712.05877) §3.2.  Weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import torch

from graphopt.passes.cleanup.weights import Layer, fits, rebuilt, refusal, weighted
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule


def scale_and_shift(match: Match) -> tuple[torch.Tensor, torch.Tensor]:
    """``y = x * scale + shift``, both ``[C]`` in float64."""
    mean, variance = match.mean.tensor.detach().double(), match.variance.tensor.detach().double()
    scale = torch.rsqrt(variance + float(match.eps))
    if match.gamma is not None:
        scale = scale * match.gamma.tensor.detach().double()
    shift = -mean * scale
    if match.beta is not None:
        shift = shift + match.beta.tensor.detach().double()
    return scale, shift


def _refusal(match: Match) -> str | None:
    if not isinstance(match.w, Value):
        return "the layer has no weight"
    problem = refusal(match)
    if problem is not None:
        return problem
    for name in ("gamma", "beta", "mean", "variance"):
        value = match.bindings[name]
        if value is None and name in ("gamma", "beta"):
            continue
        if not isinstance(value, Value) or not value.is_constant:
            return f"{name} is not a constant"
    if match.product.dtype != match.result.dtype:
        return "the normalisation changes the dtype"
    return None


class BatchNormIntoLayer(RewriteRule):
    """batch_norm(conv(x, w, b)) -> conv(x, w', b'); transposed, grouped and linear too"""

    def pattern(
        self,
        op: PatternOps,
        x: Any,
        w: Any,
        b: Any,
        gamma: Any,
        beta: Any,
        mean: Any,
        variance: Any,
        eps: Any,
    ) -> Any:
        layer = weighted(op, x, w, b)
        return op.batch_norm(layer, gamma, beta, mean, variance, False, op.any, eps, op.any)

    def check(self, match: Match) -> Verdict:
        problem = _refusal(match)
        if problem is not None:
            return match.fail(problem)
        layer, weight = Layer(match.product.node), match.w.tensor
        if layer.channel_axis(match.product.rank) != 1:
            return match.fail("the channels of the layer are not the channels of the normalisation")
        scale, shift = scale_and_shift(match)
        if scale.numel() != layer.out_channels(weight):
            return match.fail("the normalisation has another number of channels")
        if not all(fits(t, match.w.dtype) for t in self._folded(match)):
            return match.fail(f"the folded weights do not fit {match.w.dtype}")
        return match.ok()

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor]:
        scale, shift = scale_and_shift(match)
        weight = Layer(match.product.node).scaled_outputs(match.w.tensor.detach().double(), scale)
        bias = shift if match.b is None else shift + scale * match.b.tensor.detach().double()
        return weight, bias

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return rebuilt(op, match, *self._folded(match))


class BatchNormBeforeLayer(RewriteRule):
    """conv(batch_norm(x), w, b) -> conv(x, w', b') without padding; linear too

    Zeros that padding adds do not go through the normalisation, so a padded convolution is refused,
    and a transposed one, whose outputs do not all see the same taps.
    """

    def pattern(
        self,
        op: PatternOps,
        x: Any,
        w: Any,
        b: Any,
        gamma: Any,
        beta: Any,
        mean: Any,
        variance: Any,
        eps: Any,
    ) -> Any:
        norm = op.named("norm", op.batch_norm(x, gamma, beta, mean, variance, False, op.any, eps, op.any))
        return weighted(op, norm, w, b)

    def check(self, match: Match) -> Verdict:
        problem = _refusal(match)
        if problem is not None:
            return match.fail(problem)
        layer, weight = Layer(match.product.node), match.w.tensor
        if layer.channel_axis(match.norm.rank) != 1:
            return match.fail("the channels of the normalisation are not the inputs of the layer")
        if not layer.is_unpadded:
            return match.fail("padding does not go through the normalisation")
        if match.mean.tensor.numel() != layer.in_channels(weight):
            return match.fail("the normalisation has another number of channels")
        if match.x.dtype != match.product.dtype:
            return match.fail("the normalisation changes the dtype")
        if not all(fits(t, match.w.dtype) for t in self._folded(match)):
            return match.fail(f"the folded weights do not fit {match.w.dtype}")
        return match.ok()

    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor]:
        layer = Layer(match.product.node)
        scale, shift = scale_and_shift(match)
        weight = match.w.tensor.detach().double()
        bias = layer.response_to(weight, shift)
        if match.b is not None:
            bias = bias + match.b.tensor.detach().double()
        return layer.scaled_inputs(weight, scale), bias

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return rebuilt(op, match, *self._folded(match), x=match.x)


class FunctionalBatchNorm(RewriteRule):
    """_native_batch_norm_legit_no_training(x, ...)[0] -> batch_norm(x, ..., training=False)"""

    def pattern(
        self, op: PatternOps, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, momentum: Any, eps: Any
    ) -> Any:
        whole = op._native_batch_norm_legit_no_training(x, gamma, beta, mean, variance, momentum, eps)
        return op.item(whole, 0)

    def rewrite(self, op: Emitter, match: Match) -> Value:
        m = match
        return op.batch_norm(m.x, m.gamma, m.beta, m.mean, m.variance, False, m.momentum, m.eps, True)
