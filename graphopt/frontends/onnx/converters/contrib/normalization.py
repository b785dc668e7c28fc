"""Layer and RMS normalisation after a residual sum."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.registry import op


@contrib_op("SkipLayerNormalization")
def skip_layer_normalization(
    call: Call,
    x: torch.Tensor,
    skip: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> Any:
    """LayerNorm of ``x + skip + bias`` over the last axis; the fourth output is the sum.

    x [B, S, H]; skip [B, S, H], [1, S, H] or [S, H]; scale, shift and bias [H].
    """
    total = _sum(call, x, skip, bias)
    y = F.layer_norm(total, [x.shape[-1]], scale, shift, call.float("epsilon", 1e-12))
    return y, None, None, total


@contrib_op("SkipSimplifiedLayerNormalization")
def skip_rms_normalization(
    call: Call,
    x: torch.Tensor,
    skip: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> Any:
    """RMSNorm of ``x + skip + bias`` over the last axis; the fourth output is the sum."""
    total = _sum(call, x, skip, bias)
    return F.rms_norm(total, [x.shape[-1]], scale, call.float("epsilon", 1e-12)), None, None, total


def _sum(call: Call, x: torch.Tensor, skip: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if call.wants(1) or call.wants(2):
        raise call.error("has outputs for the mean or the deviation, which exist in training only")
    total = x + skip
    return total if bias is None else total + bias


@op("SimplifiedLayerNormalization", since=1)
@contrib_op("SimplifiedLayerNormalization")
def rms_normalization(call: Call, x: torch.Tensor, scale: torch.Tensor) -> Any:
    """RMSNorm over the axes from ``axis`` on; onnxruntime writes it in the standard domain.

    On request also the inverse root mean square, in the type ``stash_type``.
    """
    axis = call.int("axis", -1) % x.ndim
    epsilon = call.float("epsilon", 1e-5)
    y = F.rms_norm(x, x.shape[axis:], None, epsilon) if scale.dtype != x.dtype else None
    y = F.rms_norm(x, x.shape[axis:], scale, epsilon) if y is None else y.to(scale.dtype) * scale
    if not call.wants(1):
        return y
    stash = call.dtype("stash_type", torch.float32)
    assert stash is not None
    squares = x.to(stash) ** 2
    return y, torch.rsqrt(squares.mean(dim=list(range(axis, x.ndim)), keepdim=True) + epsilon)
