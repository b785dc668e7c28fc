"""Wrong rewrite rules: activations, norms, attention, shapes, numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from graphopt.fuzz.selfcheck.variant import replaced, together, variant
from graphopt.passes.cleanup import (
    activations,
    attention,
    clamps,
    identities,
    norms,
    permutes,
    rotary,
    scalars,
    shapes,
    slices,
)

Patch = AbstractContextManager[Any]


def _accepts(rule: type) -> Patch:
    """The rule with no guard but its pattern."""
    return replaced(rule, "check", lambda self, match: match.ok())


@variant(
    "hard-swish",
    "the clip ends at 5 instead of 6",
    within=1500,
    needs=("clamp", "clip", "hardtanh", "relu6"),
    rules=("hard-swish",),
)
def hard_swish_clipped_at_five() -> Patch:
    def rewrite(self: Any, op: Any, match: Any) -> Any:
        return op.graphopt.hard_swish(match.x, 3.0, 5.0, 6.0)

    return replaced(activations.HardSwish, "rewrite", rewrite)


@variant(
    "gelu-tanh",
    "the exact GELU stands for the approximation",
    within=1500,
    needs=("tanh",),
    rules=("gelu-tanh",),
)
def exact_gelu_for_tanh() -> Patch:
    return replaced(activations.GeluTanh, "rewrite", lambda self, op, x: op.gelu(x))


@variant("silu", "the gate may be the sigmoid of another tensor", within=1000, needs=("sigmoid",))
def silu_of_any_gate() -> Patch:
    return replaced(activations.Silu, "pattern", lambda self, op, x, y: op.mul(x, op.sigmoid(y)))


@variant(
    "rms-norm-core",
    "the epsilon is a number of its own",
    within=1500,
    needs=("mean",),
    rules=("rms-norm-core", "layer-norm-core"),
)
def rms_norm_with_another_epsilon() -> Patch:
    return replaced(norms, "_eps", lambda match: 0.1)


@variant(
    "layer-norm-core",
    "the mean is not subtracted",
    within=1500,
    needs=("mean", "var"),
    rules=("layer-norm-core",),
)
def layer_norm_forgets_the_mean() -> Patch:
    def rewrite(self: Any, op: Any, match: Any) -> Any:
        return op.rms_norm(match.x, [match.x.shape[-1]], None, 1e-5)

    return replaced(norms.LayerNormCore, "rewrite", rewrite)


@variant("layer-norm-core", "a mean over other axes than the variance's is taken for the same", within=2500,
         needs=("mean", "var"))  # fmt: skip
def norm_over_any_axes() -> Patch:
    return replaced(norms._Core, "check", lambda self, match: (
        match.ok() if norms._normalized_shape(match.x, match.axes) else match.fail("axes")))  # fmt: skip


@variant(
    "eager-attention",
    "the scores are not scaled",
    within=1500,
    needs=("softmax",),
    rules=("eager-attention",),
)
def attention_without_scale() -> Patch:
    return replaced(attention, "_scale", lambda match: 1.0)


@variant("grouped-queries", "key heads of any order count as groups", within=3000, needs=("attention",))
def groups_in_any_order() -> Patch:
    return _accepts(attention.GroupedQueries)


@variant("rotate-half", "halves of any length and order are rotated", within=3000, needs=("cat",))
def rotary_of_any_halves() -> Patch:
    def check(self: Any, match: Any) -> Any:
        return match.ok() if match.x.shape[-1] % 2 == 0 else match.fail("odd")

    return replaced(rotary.RotateHalf, "check", check)


@variant("empty-in-cat", "the first part is dropped, empty or not", within=1500, needs=("cat",))
def cat_drops_its_first_part() -> Patch:
    return replaced(identities.EmptyInCat, "_kept", lambda self, match: list(match.parts[1:]))


@variant(
    "lossless-round-trip", "a cast through a narrower dtype is dropped", within=1500, needs=("to", "_to_copy")
)
def any_round_trip() -> Patch:
    return replaced(identities, "_holds", lambda wide, narrow: True)


@variant(
    "unit-factor",
    "x * 1 is dropped though it changes the dtype",
    within=2500,
    needs=("mul", "pow", "add", "div", "sub"),
)
def no_dtype_guard() -> Patch:
    def unchanged(match: Any) -> Any:
        same = identities.is_tensor(match.x) and identities.same_shape(match.x.shape, match.result.shape)
        return match.ok() if same else match.fail("shape")

    return replaced(identities, "_unchanged", unchanged)


@variant(
    "uniform-identity",
    "x + 0 is dropped though zero broadcasts x",
    within=2500,
    needs=("mul", "add", "div", "sub"),
)
def no_broadcast_guard() -> Patch:
    def unchanged(match: Any) -> Any:
        same = identities.is_tensor(match.x) and match.x.dtype == match.result.dtype
        return match.ok() if same else match.fail("dtype")

    return replaced(identities, "_unchanged", unchanged)


@variant("inference-dropout", "dropout goes in training as well", within=2500, needs=("dropout",))
def dropout_of_training() -> Patch:
    def pattern(self: Any, op: Any, x: Any) -> Any:
        return op.any_of(("dropout", "feature_dropout"), x, ...)

    return replaced(identities.InferenceDropout, "pattern", pattern)


@variant("number-operand", "a constant becomes a number though the dtype changes", within=2500)
def number_of_any_dtype() -> Patch:
    def dtype(node: Any, x: Any, c: Any, number: Any) -> Any:
        return node.meta["val"].dtype

    return replaced(scalars, "_dtype_with_number", dtype)


@variant(
    "square-root-power",
    "x ** -0.5 becomes the square root",
    within=1500,
    needs=("pow",),
    rules=("square-root-power",),
)
def root_of_the_wrong_sign() -> Patch:
    return replaced(scalars.SquareRootPower, "rewrite", lambda self, op, x, e: op.sqrt(x))


@variant(
    "reshape-of-reshape",
    "a permute between two reshapes is skipped",
    within=800,
    needs=("permute", "transpose", ".t."),
)
def reshape_through_permute() -> Patch:
    def pattern(self: Any, op: Any, x: Any, shape: Any) -> Any:
        inner = op.any_of(("reshape", "permute", "t", "transpose", "unsqueeze"), x, ...)
        return op.reshape(op.shared(inner), shape)

    return replaced(shapes.ReshapeOfReshape, "pattern", pattern)


@variant("canonical-reshape", "the first size is written as a number, whatever the batch", within=4000)
def reshape_with_a_baked_batch() -> Patch:
    def shape(self: Any, match: Any) -> list[Any]:
        sizes = [int(s) if isinstance(s, int) else int(s.node.hint) for s in match.result.shape]
        return [-1 if i == len(sizes) - 1 else s for i, s in enumerate(sizes)]

    def pattern(self: Any, op: Any, x: Any, shape: Any) -> Any:
        return op.reshape(x, shape)

    return together(
        replaced(shapes.CanonicalReshape, "_shape", shape),
        replaced(shapes.CanonicalReshape, "pattern", pattern),
    )


@variant("squeeze-of-unsqueeze", "the two need not act on the same axis", within=2500, needs=("squeeze",))
def squeeze_of_another_axis() -> Patch:
    return _accepts(shapes.SqueezeOfUnsqueeze)


@variant("expand-of-expand", "the inner expand's sizes are lost", within=3000, needs=("expand",))
def expand_forgets_the_inner_one() -> Patch:
    return _accepts(shapes.ExpandOfExpand)


@variant("permute-of-permute", "the two permutations are composed the wrong way round", within=1500,
         needs=("permute", "transpose", ".t.", "mT", "swap"), rules=("permute-of-permute",))  # fmt: skip
def permutes_composed_backwards() -> Patch:
    def rewrite(self: Any, op: Any, match: Any) -> Any:
        return op.permute(match.x, [match.outer[a] % match.x.rank for a in match.inner])

    return replaced(permutes.PermuteOfPermute, "rewrite", rewrite)


@variant(
    "slice-to-end",
    "the start of a slice is counted from the wrong end",
    within=1500,
    needs=("slice",),
    rules=("slice-to-end",),
)
def negative_index_of_a_slice() -> Patch:
    def rewrite(self: Any, op: Any, match: Any) -> Any:
        start = abs(match.start or 0)
        return op.overload(slices.aten.slice.Tensor, match.x, match.axis, start, slices.MAX_INDEX, match.step)

    return replaced(slices.SliceToEnd, "rewrite", rewrite)


@variant(
    "slice-to-end", "a slice that leaves the last element out goes to the end", within=800, needs=("slice",)
)
def slice_off_by_one() -> Patch:
    return replaced(
        slices,
        "same_size",
        lambda a, b: isinstance(a, int) and isinstance(b, int) and a - b in (0, 1),
    )


@variant("clamp-of-clamp", "the lower bound is clipped with the bounds exchanged", within=1500,
         needs=("clamp", "clip", "hardtanh", "relu6"), rules=("clamp-of-clamp",))  # fmt: skip
def clip_bounds_swapped() -> Patch:
    return replaced(clamps, "_clip", lambda value, low, high: value)


@variant(
    "canonical-clamp",
    "the bounds of hardtanh are exchanged",
    within=1500,
    needs=("hardtanh",),
    rules=("canonical-clamp",),
)
def hardtanh_bounds_swapped() -> Patch:
    right = clamps.bounds_of

    def bounds(match: Any, low: str = "low", high: str = "high") -> Any:
        found = right(match, low, high)
        return found if None in found else (found[1], found[0])

    return replaced(clamps, "bounds_of", bounds)
