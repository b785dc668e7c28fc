"""The families of rules as passes; each runs its rules to a fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.passes.cleanup import (
    activations,
    attention,
    batch_norm,
    channel_affine,
    clamps,
    identities,
    linear_layers,
    norms,
    permutes,
    rotary,
    scalars,
    shapes,
    slices,
)
from graphopt.passmanager.base import RulePass
from graphopt.passmanager.registry import register_pass
from graphopt.rewriting.rule import RewriteRule


@register_pass("remove-identities")
@dataclass(frozen=True)
class Identities(RulePass):
    """Removes operators that do nothing: inference dropout, copies, casts to the own dtype, x + 0.

    Attributes:
        training: keep ``detach``, which stops gradients.
    """

    training: bool = False

    @property
    def preserves_training(self) -> bool:  # type: ignore[override]
        return self.training

    def rules(self) -> Sequence[RewriteRule]:
        always: tuple[RewriteRule, ...] = (
            shapes.CanonicalReshape(),
            identities.InferenceDropout(),
            identities.NoDropout(),
            identities.Copy(),
            identities.SameDtypeCast(),
            identities.LosslessRoundTrip(),
            identities.AddZero(),
            identities.SubtractZero(),
            identities.UnitFactor(),
            identities.UnitDivisor(),
            identities.Repeated(),
            identities.UnboundedClamp(),
            identities.SingleCat(),
            identities.EmptyInCat(),
            identities.SameOperands(),
            identities.FactoryLike(),
            slices.FullSlice(),
            shapes.IdentityReshape(),
            permutes.IdentityPermute(),
        )
        return always if self.training else (*always, identities.Detach())


@register_pass("canonical-shapes")
class Shapes(RulePass):
    """Writes reshapes, expands and slices without baked integers, permutes in one form, and merges them."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            shapes.IdentityReshape(),
            shapes.ReshapeOfReshape(),
            shapes.FlattenOfReshape(),
            shapes.SqueezeOfUnsqueeze(),
            shapes.UnsqueezeOfSqueeze(),
            shapes.ExpandOfExpand(),
            shapes.CanonicalReshape(),
            shapes.CanonicalExpand(),
            permutes.IdentityPermute(),
            permutes.PermuteOfPermute(),
            permutes.CanonicalPermute(),
            slices.FullSlice(),
            slices.SliceToEnd(),
        )


@register_pass("canonical-scalars")
@dataclass(frozen=True)
class Scalars(RulePass):
    """Writes one-element constants as numbers, and clamps and square roots in one form.

    Attributes:
        training: leave trainable parameters of one element alone.
    """

    training: bool = False

    @property
    def preserves_training(self) -> bool:  # type: ignore[override]
        return self.training

    def rules(self) -> Sequence[RewriteRule]:
        return (
            identities.AddZero(),
            identities.SubtractZero(),
            identities.UnitFactor(),
            identities.UnitDivisor(),
            identities.UniformIdentity(),
            identities.AndTrue(),
            identities.UnboundedClamp(),
            scalars.NumberOperand(parameters=not self.training),
            scalars.SquareRootPower(),
            scalars.ReciprocalSquareRoot(),
            clamps.ClampOfClamp(),
            clamps.CanonicalClamp(parameters=not self.training),
        )


@register_pass("fuse-linear")
class Linears(RulePass):
    """Makes linear layers of products with constant matrices."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            linear_layers.MatmulByConstant(),
            linear_layers.AddmmByConstant(),
            linear_layers.LinearBias(),
            linear_layers.LinearOverRows(),
            linear_layers.BatchedMatmul(),
        )


@register_pass("fuse-activations")
class Activations(RulePass):
    """Makes one operator of decomposed GELU, SiLU, Mish, hard-swish and hard-sigmoid."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            activations.HardSwish(),
            activations.HardSigmoid(),
            activations.HardSigmoidOfClip(),
            activations.HardSwishOfGate(),
            activations.GeluErf(),
            activations.GeluTanh(),
            activations.Silu(),
            activations.Mish(),
            clamps.ClampAtZero(),
        )


@register_pass("fuse-norms")
class Norms(RulePass):
    """Makes one operator of decomposed LayerNorm and RMSNorm, with weight, bias and casts."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            norms.FunctionalLayerNorm(),
            norms.LayerNormCore(),
            norms.RmsNormCore(),
            norms.NormInWiderDtype(),
            norms.LayerNormWeight(),
            norms.LayerNormBias(),
            norms.RmsNormWeight(),
        )


@register_pass("fuse-attention")
class Attention(RulePass):
    """Makes one operator of written-out attention and rotary embedding; repeated heads become GQA."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            rotary.RotateHalf(),
            rotary.RotateHalfSplit(),
            rotary.RotatePairs(),
            rotary.PartialRotary(),
            attention.EagerAttention(),
            attention.ScaledOperands(),
            permutes.PermuteOfPermute(),
            permutes.IdentityPermute(),
            attention.GroupedQueries(),
        )


@register_pass("fold-into-weights")
class LayerWeights(RulePass):
    """Folds batch norms and constant scales and shifts into the layers next to them."""

    def rules(self) -> Sequence[RewriteRule]:
        return (
            batch_norm.FunctionalBatchNorm(),
            batch_norm.BatchNormIntoLayer(),
            batch_norm.BatchNormBeforeLayer(),
            channel_affine.ScaleAfterLayer(),
            channel_affine.ShiftAfterLayer(),
            channel_affine.ScaleBeforeLayer(),
            channel_affine.ShiftBeforeLayer(),
            channel_affine.ScaleThroughShift(),
        )


def all_rules() -> dict[str, RewriteRule]:
    """Every rule of cleanup, by name."""
    passes: tuple[RulePass, ...] = (
        Identities(),
        Shapes(),
        Scalars(training=True),
        Linears(),
        Activations(),
        Norms(),
        Attention(),
        LayerWeights(),
    )
    return {rule.name: rule for p in passes for rule in p.rules()}
