"""Variants of GELU, with a bias in front or without, and softmax of biased scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op


@contrib_op("Gelu")
def gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x)


@contrib_op("BiasGelu")
def bias_gelu(call: Call, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.gelu(x + bias)


@contrib_op("FastGelu")
def fast_gelu(call: Call, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The approximation by tanh, after an optional bias."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@contrib_op("QuickGelu")
def quick_gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha = call.float("alpha", 1.702)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(x * alpha)


@contrib_op("BiasSoftmax")
def bias_softmax(call: Call, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Softmax over the axes from ``axis`` on, as one; the bias lacks axes in front of it or before those."""
    axis = call.int("axis", 1) % x.ndim
    if call.flag("is_inner_broadcast"):
        # The bias varies along leading axes: [batch, 1, ..., 1, *softmax axes].
        lead = [*bias.shape[: bias.ndim - (x.ndim - axis)]]
        lead = [size for size in lead if not (isinstance(size, int) and size == 1)]
        bias = bias.reshape([*lead, *[1] * (axis - len(lead)), *x.shape[axis:]])
    scores = x + bias
    if axis == x.ndim - 1:
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores.flatten(axis), dim=-1).reshape(x.shape)


@contrib_op("BiasAdd")
def bias_add(call: Call, x: torch.Tensor, bias: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    return x + bias + skip
