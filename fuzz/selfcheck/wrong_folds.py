"""Wrong folds of constants into weights."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from graphopt.fuzz.selfcheck.variant import replaced, together, variant
from graphopt.passes.cleanup import batch_norm, channel_affine, linear_layers, weights

Patch = AbstractContextManager[Any]

LAYERS = ("conv", "linear", "matmul", "addmm", "mm.")


@variant(
    "batch-norm-into-layer",
    "the epsilon is left out of the variance",
    within=1500,
    needs=("batch_norm",),
    rules=("batch-norm-into-layer", "batch-norm-before-layer"),
)
def fold_without_epsilon() -> Patch:
    right = batch_norm.scale_and_shift

    def wrong(match: Any) -> Any:
        scale, shift = right(match)
        variance = match.variance.tensor.detach().double()
        ratio = torch.sqrt(variance + float(match.eps)) / torch.sqrt(variance)
        mean = match.mean.tensor.detach().double()
        return scale * ratio, shift + mean * scale * (1 - ratio)

    return replaced(batch_norm, "scale_and_shift", wrong)


@variant(
    "batch-norm-into-layer",
    "the layer's own bias is dropped",
    within=1500,
    needs=("batch_norm",),
    rules=("batch-norm-into-layer",),
)
def fold_drops_the_bias() -> Patch:
    right = batch_norm.BatchNormIntoLayer._folded

    def folded(self: Any, match: Any) -> Any:
        return right(self, match)[0], batch_norm.scale_and_shift(match)[1]

    return replaced(batch_norm.BatchNormIntoLayer, "_folded", folded)


@variant("batch-norm-before-layer", "padding is taken for normalised", within=4000, needs=("batch_norm",))
def fold_through_padding() -> Patch:
    return replaced(batch_norm.Layer, "is_unpadded", True)


@variant(
    "scale-after-layer",
    "the channels are scaled in reverse order",
    within=1500,
    needs=LAYERS,
    rules=("scale-after-layer", "batch-norm-into-layer"),
)
def scale_in_the_wrong_order() -> Patch:
    right = channel_affine.Layer.scaled_outputs

    def wrong(self: Any, weight: Any, scale: Any) -> Any:
        return right(self, weight, scale.flip(0))

    return replaced(channel_affine.Layer, "scaled_outputs", wrong)


@variant(
    "shift-after-layer",
    "a constant that is added is subtracted",
    within=2500,
    needs=LAYERS,
    rules=("shift-after-layer",),
)
def shift_with_the_wrong_sign() -> Patch:
    def folded(self: Any, match: Any) -> Any:
        shift = -self._constant(match)
        bias = shift if match.b is None else shift + match.b.tensor.detach().double()
        return match.w.tensor.detach().double(), bias

    return replaced(channel_affine.ShiftAfterLayer, "_folded", folded)


@variant(
    "rebuilt",
    "folded weights are written into the tensor that the original uses",
    within=1500,
    needs=LAYERS,
    rules=(
        "scale-after-layer",
        "shift-after-layer",
        "scale-before-layer",
        "shift-before-layer",
        "batch-norm-into-layer",
        "batch-norm-before-layer",
    ),
)
def weight_changed_in_place() -> Patch:
    right = weights.rebuilt

    def wrong(op: Any, match: Any, weight: Any, bias: Any, **rest: Any) -> Any:
        if weight.shape == match.w.tensor.shape:
            with torch.no_grad():
                match.w.tensor.copy_(weight)
        return right(op, match, weight, bias, **rest)

    return _everywhere(wrong)


@variant(
    "rebuilt",
    "folded weights are cut off from the gradient",
    within=3000,
    needs=LAYERS,
    rules=(
        "scale-after-layer",
        "shift-after-layer",
        "scale-before-layer",
        "shift-before-layer",
        "batch-norm-into-layer",
        "batch-norm-before-layer",
    ),
)
def gradient_lost() -> Patch:
    from graphopt.rewriting.match import Emitter

    right = Emitter.constant

    def wrong(self: Any, name: str, tensor: Any, *rest: Any) -> Any:
        return right(self, name, tensor.detach(), *rest)

    return replaced(Emitter, "constant", wrong)


def _everywhere(wrong: Any) -> Patch:
    return together(replaced(batch_norm, "rebuilt", wrong), replaced(channel_affine, "rebuilt", wrong))


@variant(
    "matmul-by-constant",
    "a square matrix is not transposed",
    within=2500,
    needs=("matmul", "mm."),
    rules=("matmul-by-constant",),
)
def weight_not_transposed() -> Patch:
    def rewrite(self: Any, op: Any, x: Any, w: Any) -> Any:
        square = w.shape[0] == w.shape[1]
        return op.linear(x, w if square else op.permute(w, [1, 0]))

    return replaced(linear_layers.MatmulByConstant, "rewrite", rewrite)


@variant("refusal", "a weight that others use is folded into as well", within=4000, needs=LAYERS)
def shared_weight_copied() -> Patch:
    from graphopt.rewriting.match import Value

    return replaced(Value, "is_shared", False)
