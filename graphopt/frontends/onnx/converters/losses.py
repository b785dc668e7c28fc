"""Losses of class scores: X [N, C, d1, ..., dk], target [N, d1, ..., dk], weight [C].

https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html and SoftmaxCrossEntropyLoss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import op


def _loss(
    call: Call, log_probabilities: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None
) -> torch.Tensor:
    """Rank 0, or the target's shape for ``reduction="none"``.

    A mean is over the weights of the targets that are not ignored, as torch has it.
    """
    # Without the attribute nothing is ignored; a class number cannot be negative.
    ignored = call.int("ignore_index", -(2**63) + 1)
    reduction = call.str("reduction", "mean")
    if reduction not in ("none", "mean", "sum"):
        raise call.error(f"has the reduction {reduction!r}; none, mean and sum are defined")
    classes = target.to(torch.int64)
    return F.nll_loss(log_probabilities, classes, weight, ignore_index=ignored, reduction=reduction)


@op("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood(
    call: Call, x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    return _loss(call, x, target, weight)


@op("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy(
    call: Call, scores: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs: the loss, and the logarithms of the probabilities."""
    log_probabilities = F.log_softmax(scores, dim=1)
    return _loss(call, log_probabilities, labels, weight), log_probabilities
