"""The templates catch wrong rules: each of these is one plausible mistake away from the real one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from graphopt.fuzz.templates import all_templates, failures
from graphopt.passes.cleanup import (
    activations,
    attention,
    batch_norm,
    channel_affine,
    identities,
    norms,
    rotary,
    scalars,
    shapes,
)
from graphopt.passes.cleanup.weights import Layer, rebuilt
from graphopt.rewriting.match import Emitter, Match, Value, Verdict
from graphopt.rewriting.pattern import PatternOps
from graphopt.rewriting.rule import RewriteRule


class BatchNormWithoutEps(batch_norm.BatchNormIntoLayer):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        scale = match.gamma.tensor.double() if match.gamma is not None else 1.0
        scale = scale * torch.rsqrt(match.variance.tensor.double())
        shift = -match.mean.tensor.double() * scale
        shift = shift + match.beta.tensor.double() if match.beta is not None else shift
        weight = Layer(match.product.node).scaled_outputs(match.w.tensor.double(), scale)
        bias = shift if match.b is None else shift + scale * match.b.tensor.double()
        return rebuilt(op, match, weight, bias)


class BatchNormForgetsOldBias(batch_norm.BatchNormIntoLayer):
    def _folded(self, match: Match) -> tuple[torch.Tensor, torch.Tensor]:
        weight, bias = super()._folded(match)
        return weight, batch_norm.scale_and_shift(match)[1]


class BatchNormThroughPadding(batch_norm.BatchNormBeforeLayer):
    def check(self, match: Match) -> Verdict:
        return match.ok()


class ShiftThroughPadding(channel_affine.ShiftBeforeLayer):
    def _padding_refusal(self, match: Match) -> str | None:
        return None


class HardSwishClippedAtFive(activations.HardSwish):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.div(op.mul(match.x, op.clamp(op.add(match.x, 3.0), 0.0, 5.0)), 6.0)


class GeluForTanhGelu(activations.GeluTanh):
    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.gelu(x)


class SiluOfAnyGate(activations.Silu):
    def pattern(self, op: PatternOps, x: Any, y: Any) -> Any:
        return op.mul(x, op.sigmoid(y))


class RmsNormWithoutEps(norms.RmsNormCore):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.rms_norm(match.x, [match.x.shape[-1]], None, 0.1)


class LayerNormForgetsMean(norms.LayerNormCore):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.rms_norm(match.x, [match.x.shape[-1]], None, 1e-5)


class AttentionWithoutScale(attention.EagerAttention):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        return op.scaled_dot_product_attention(
            match.q, op.permute(match.kt, [*range(match.q.rank - 2), -1, -2]), match.v
        )


class AttentionWithoutMask(attention.EagerAttention):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        key = op.permute(match.kt, [*range(match.q.rank - 2), -1, -2])
        return op.scaled_dot_product_attention(
            match.q, key, match.v, None, 0.0, False, scale=attention._scale(match)
        )


class GroupsInAnyOrder(attention.GroupedQueries):
    def check(self, match: Match) -> Verdict:
        return match.ok()


class RotaryOfAnyHalves(rotary.RotateHalf):
    def check(self, match: Match) -> Verdict:
        return match.ok() if match.x.shape[-1] == 8 else match.fail("not 8 channels")


class CatDropsFirst(identities.EmptyInCat):
    def _kept(self, match: Match) -> list[Value]:
        return list(match.parts[1:])


class CatAlongAnotherAxis(identities.EmptyInCat):
    def rewrite(self, op: Emitter, match: Match) -> Value:
        kept = self._kept(match)
        return kept[0] if len(kept) == 1 else op.cat(kept, 0)


class AnyRoundTrip(identities.LosslessRoundTrip):
    def check(self, match: Match) -> Verdict:
        return match.ok()


class NumberOfAnyDtype(scalars.NumberOperand):
    def check(self, match: Match) -> Verdict:
        return match.ok() if match.number("c") is not None else match.fail("no number")


class ReshapeThroughPermute(shapes.ReshapeOfReshape):
    def pattern(self, op: PatternOps, x: Any, shape: Any) -> Any:
        return op.reshape(op.any_of(("reshape", "permute", "t", "unsqueeze"), x, ...), shape)


WRONG: list[tuple[str, RewriteRule]] = [
    ("batch-norm-into-layer", BatchNormWithoutEps()),
    ("batch-norm-into-layer", BatchNormForgetsOldBias()),
    ("batch-norm-before-layer", BatchNormThroughPadding()),
    ("shift-before-layer", ShiftThroughPadding()),
    ("hard-swish", HardSwishClippedAtFive()),
    ("gelu-tanh", GeluForTanhGelu()),
    ("silu", SiluOfAnyGate()),
    ("rms-norm-core", RmsNormWithoutEps()),
    ("layer-norm-core", LayerNormForgetsMean()),
    ("eager-attention", AttentionWithoutScale()),
    ("eager-attention", AttentionWithoutMask()),
    ("grouped-queries", GroupsInAnyOrder()),
    ("rotate-half", RotaryOfAnyHalves()),
    ("empty-in-cat", CatDropsFirst()),
    ("empty-in-cat", CatAlongAnotherAxis()),
    ("lossless-round-trip", AnyRoundTrip()),
    ("number-operand", NumberOfAnyDtype()),
    ("reshape-of-reshape", ReshapeThroughPermute()),
]


@pytest.mark.parametrize(("name", "rule"), WRONG, ids=[type(r).__name__ for _, r in WRONG])
def test_a_wrong_rule_is_caught(name: str, rule: RewriteRule) -> None:
    found = next(failures(rule, all_templates()[name]), None)
    assert found is not None, f"{type(rule).__name__} passes the template of {name}"


def test_constants_one_float32_step_away_match_and_further_ones_do_not() -> None:
    from graphopt.fuzz.templates import Case, try_case

    def gelu(root: float) -> Case:
        return Case("gelu", lambda w, x: x * 0.5 * (1 + torch.erf(x / root)), ((3, 4),))

    root = math.sqrt(2)
    assert try_case(activations.GeluErf(), gelu(1.41421354)).fired
    assert not try_case(activations.GeluErf(), gelu(root * (1 + 2.0**-21))).fired
