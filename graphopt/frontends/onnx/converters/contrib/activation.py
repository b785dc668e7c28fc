"""Variants of GELU, with a bias in front or without."""

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
