"""Metrics that a ``Lossy`` contract may budget.  Lower is better for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphopt.errors import UsageError, did_you_mean

Metric = Callable[[Sequence[Tensor], Sequence[Tensor]], float]
"""``metric(reference outputs, candidate outputs)``; the reference's are in float64."""


def _floats(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [
        (r.double(), c.double()) for r, c in zip(reference, candidate, strict=True) if r.is_floating_point()
    ]


def _worst(values: Sequence[float]) -> float:
    """The largest value, or NaN if one is NaN: a metric must never lose one."""
    return float(torch.tensor(values, dtype=torch.float64).max()) if values else 0.0


def max_abs(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> float:
    """Largest absolute difference of any output element."""
    return max(
        (float((r - c).abs().max()) for r, c in _floats(reference, candidate) if r.numel()), default=0.0
    )


def relative_l2(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> float:
    """``||reference - candidate|| / ||reference||`` of the worst output, in the Euclidean norm."""
    ratios = []
    for r, c in _floats(reference, candidate):
        norm, error = float(r.norm()), float((r - c).norm())
        ratios.append(error / norm if norm else (0.0 if error == 0 else float("inf")))
    return _worst(ratios)


def cosine_distance(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> float:
    """``1 - cos`` of the angle between reference and candidate, of the worst output."""
    similarity = torch.nn.functional.cosine_similarity
    pairs = _floats(reference, candidate)
    return _worst([1.0 - float(similarity(r.flatten(), c.flatten(), dim=0)) for r, c in pairs])


def top1_disagreement(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> float:
    """Fraction of rows of the first output whose largest entry (last axis) moved."""
    return float((reference[0].argmax(-1) != candidate[0].argmax(-1)).double().mean())


def kl_divergence(reference: Sequence[Tensor], candidate: Sequence[Tensor]) -> float:
    """Mean over rows of KL(softmax(reference) || softmax(candidate)) of the first output, in nats."""
    p, q = (torch.log_softmax(t[0].double(), -1) for t in (reference, candidate))
    return float((p.exp() * (p - q)).sum(-1).mean())


METRICS: dict[str, Metric] = {
    f.__name__: f for f in (max_abs, relative_l2, cosine_distance, top1_disagreement, kl_divergence)
}


def metric_named(name: str) -> Metric:
    """Looks a metric up.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in METRICS:
        raise UsageError(
            f"no metric is named {name!r}", hint=did_you_mean(name, METRICS) or f"one of {', '.join(METRICS)}"
        )
    return METRICS[name]
