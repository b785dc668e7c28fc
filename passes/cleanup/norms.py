"""LayerNorm and RMSNorm that exporters decompose, as one operator again.

The core is fused first, without weight and bias; the factor and the summand around it follow, each
by a rule of its own, so that every combination is covered by few patterns.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from graphopt.passes.cleanup.facts import axis_of, is_floating, is_number, is_tensor, same_shape, same_type
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule

aten = torch.ops.aten


def _normalized_shape(x: Value, axes: Any) -> list[int] | None:
    """The sizes that ``axes`` cover, if they are the trailing ones and known numbers."""
    if not isinstance(axes, (list, tuple)) or not axes:
        return None
    found = [axis_of(a, x.rank) for a in axes]
    if None in found:
        return None
    first = x.rank - len(found)
    if sorted(found) != list(range(first, x.rank)):  # type: ignore[type-var]
        return None
    sizes = list(x.shape[first:])
    return sizes if all(isinstance(s, int) for s in sizes) else None


def _square(op: PatternOps, x: Any) -> Any:
    return op.either(op.pow(x, 2), op.mul(x, x), op.square(x))


def _over_root(op: PatternOps, x: Any, variance: Any) -> Any:
    """``x / sqrt(variance)`` in the ways it is written."""
    return op.either(
        op.mul(x, op.rsqrt(variance)),
        op.div(x, op.sqrt(variance)),
        op.mul(x, op.reciprocal(op.sqrt(variance))),
        op.div(x, op.pow(variance, 0.5)),
        op.mul(x, op.pow(variance, -0.5)),
    )


class _Core(RewriteRule):
    """Common to the rules that fuse a normalisation without weight and bias."""

    def check(self, match: Match) -> Verdict:
        if not is_floating(match.x) or match.x.is_constant:
            return match.fail("x is not a computed floating-point tensor")
        if not same_type(match.x, match.result):
            return match.fail("a constant changes the dtype or shape")
        eps = match.number("eps")
        if eps is None or not math.isfinite(eps) or eps < 0:
            return match.fail("eps is not one number")
        size = _normalized_shape(match.x, match.axes)
        if size is None:
            return match.fail("the mean is not over trailing axes of known size")
        inner = match.bindings.get("axes2")
        if inner is not None and _normalized_shape(match.x, inner) != size:
            return match.fail("mean and variance are over different axes")
        return match.ok()


def _eps(match: Match) -> float:
    eps = match.number("eps")
    assert eps is not None
    return float(eps)


class LayerNormCore(_Core):
    """(x - mean(x)) / sqrt(mean((x - mean(x))**2) + eps) -> layer_norm(x)

    Ba et al. 2016 (arXiv 1607.06450), as ONNX exporters before opset 17 and Hugging Face write it.
    """

    def pattern(self, op: PatternOps, x: Any, d: Any, axes: Any, axes2: Any, eps: Any) -> Any:
        centred = op.named("d", op.sub(x, op.mean(x, axes, True)))
        variance = op.either(
            op.mean(_square(op, d), axes2, True),
            op.var(x, axes2, correction=0, keepdim=True),
            op.var(x, axes2, False, True),
        )
        return _over_root(op, centred, op.add(variance, eps))

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.layer_norm(match.x, _normalized_shape(match.x, match.axes), None, None, _eps(match))


class RmsNormCore(_Core):
    """x / sqrt(mean(x**2) + eps) -> rms_norm(x)

    Zhang & Sennrich 2019 (arXiv 1910.07467), eq. 4.
    """

    def pattern(self, op: PatternOps, x: Any, axes: Any, eps: Any) -> Any:
        return _over_root(op, x, op.add(op.mean(_square(op, x), axes, True), eps))

    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.rms_norm(match.x, _normalized_shape(match.x, match.axes), None, _eps(match))


class _Affine(RewriteRule):
    """Common to the rules that take a weight or bias into a normalisation."""

    def check(self, match: Match) -> Verdict:
        value = match.v
        if not is_tensor(value) or not is_tensor(match.x):
            return match.fail("the other operand is a number")
        if value.dtype != match.x.dtype or match.result.dtype != match.x.dtype:
            return match.fail("the weight has another dtype than x")
        if not same_shape(_without_leading_ones(value, len(match.size)), match.size):
            return match.fail("the other operand has not the normalised shape")
        if not same_shape(match.x.shape, match.result.shape):
            return match.fail("the other operand adds axes")
        return match.ok()


def _without_leading_ones(value: Value, rank: int) -> list[Any]:
    sizes = list(value.shape)
    while len(sizes) > rank and isinstance(sizes[0], int) and sizes[0] == 1:
        sizes.pop(0)
    return sizes


def _as(op: Emitter, value: Value, size: list[int]) -> Value:
    return value if value.rank == len(size) else op.reshape(value, size)


class LayerNormWeight(_Affine):
    """layer_norm(x) * w -> layer_norm(x, w)"""

    def pattern(self, op: PatternOps, x: Any, size: Any, eps: Any, v: Any) -> Any:
        return op.mul(op.layer_norm(x, size, None, None, eps, op.any), v)

    def rewrite(self, op: Emitter, x: Value, size: list[int], eps: float, v: Value) -> Value:
        return op.layer_norm(x, size, _as(op, v, size), None, eps)


class LayerNormBias(_Affine):
    """layer_norm(x, w) + b -> layer_norm(x, w, b)"""

    def pattern(self, op: PatternOps, x: Any, size: Any, w: Any, eps: Any, v: Any) -> Any:
        return op.add(op.layer_norm(x, size, w, None, eps, op.any), v)

    def check(self, match: Match) -> Verdict:
        if not isinstance(match.w, Value):
            return match.fail("the normalisation has no weight")
        return super().check(match)

    def rewrite(self, op: Emitter, x: Value, size: list[int], w: Value, eps: float, v: Value) -> Value:
        return op.layer_norm(x, size, w, _as(op, v, size), eps)


class RmsNormWeight(_Affine):
    """rms_norm(x) * w -> rms_norm(x, w)"""

    def pattern(self, op: PatternOps, x: Any, size: Any, eps: Any, v: Any) -> Any:
        return op.mul(op.rms_norm(x, size, None, eps), v)

    def rewrite(self, op: Emitter, x: Value, size: list[int], eps: float, v: Value) -> Value:
        return op.rms_norm(x, size, _as(op, v, size), eps)


class NormInWiderDtype(RewriteRule):
    """to(rms_norm(to(x, float32)), dtype of x) -> rms_norm(x), which computes in float32 inside

    Only without weight and bias: those would be rounded before they are used.
    """

    def pattern(self, op: PatternOps, x: Any, size: Any, eps: Any) -> Any:
        wide = op.to(x, ...)
        norm = op.either(
            op.rms_norm(wide, size, None, eps), op.layer_norm(wide, size, None, None, eps, op.any)
        )
        return op.to(norm, ...)

    def check(self, match: Match) -> Verdict:
        if not is_tensor(match.x) or match.x.dtype not in (torch.float16, torch.bfloat16):
            return match.fail("x is not of half precision")
        if match.result.dtype != match.x.dtype or match.result.fake.device != match.x.fake.device:
            return match.fail("the result is not cast back")
        if not is_number(match.eps):
            return match.fail("eps depends on the dtype")
        if any(n.meta["val"].dtype not in (torch.float32, match.x.dtype) for n in match.nodes):
            return match.fail("it computes in float64")
        return match.ok()

    def rewrite(self, op: Emitter, match: Match) -> Value:
        if any(n.target is aten.rms_norm.default for n in match.nodes):
            return op.rms_norm(match.x, match.size, None, match.eps)
        return op.layer_norm(match.x, match.size, None, None, match.eps)


class FunctionalLayerNorm(RewriteRule):
    """native_layer_norm(x, ...)[0] -> layer_norm(x, ...)"""

    def pattern(self, op: PatternOps, x: Any, size: Any, w: Any, b: Any, eps: Any) -> Any:
        return op.item(op.native_layer_norm(x, size, w, b, eps), 0)

    def rewrite(self, op: Emitter, x: Value, size: list[int], w: Any, b: Any, eps: float) -> Value:
        return op.layer_norm(x, size, w, b, eps)
