"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import LOW_PRECISION
from graphopt.frontends.onnx.registry import op


@op("BatchNormalization", since=1, ignores=("is_test", "momentum"))
def batch_normalization(
    call: Call,
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> Any:
    """X [N, C, ...]; in training mode also the running statistics, updated."""
    epsilon = call.float("epsilon", 1e-5)
    training = call.flag("training_mode") if call.opset >= 14 else call.wants(1)
    if not training:
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    momentum = call.float("momentum", 0.9)
    axes = [i for i in range(x.ndim) if i != 1]
    batch_mean = x.mean(dim=axes)
    batch_variance = x.var(dim=axes, correction=0)
    y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
    running = (
        mean * momentum + batch_mean * (1 - momentum),
        variance * momentum + batch_variance * (1 - momentum),
    )
    return (y, *running)


@op("InstanceNormalization")
def instance_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """X [N, C, *size], normalised over each plane."""
    return F.instance_norm(x, None, None, scale, bias, True, 0.0, call.float("epsilon", 1e-5))


@op("LayerNormalization", since=1)
def layer_normalization(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> Any:
    """Over the axes from ``axis`` on; on request also mean and inverse deviation."""
    axis = call.int("axis", -1) % x.ndim
    epsilon = call.float("epsilon", 1e-5)
    shape = x.shape[axis:]
    if tuple(scale.shape) == tuple(shape) and (bias is None or tuple(bias.shape) == tuple(shape)):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if not call.wants(1) and not call.wants(2):
        return y
    axes = list(range(axis, x.ndim))
    wide = x.float() if x.dtype in LOW_PRECISION else x
    mean = wide.mean(dim=axes, keepdim=True)
    variance = wide.var(dim=axes, correction=0, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)


@op("RMSNormalization", since=23)
def rms_normalization(call: Call, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    axis = call.int("axis", -1) % x.ndim
    shape = x.shape[axis:]
    epsilon = call.float("epsilon", 1e-5)
    if tuple(scale.shape) == tuple(shape):
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(x, shape, None, epsilon) * scale


@op("GroupNormalization", since=18)
def group_normalization_by_group(
    call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Version 18 (deprecated): one scale and bias a group."""
    groups = call.int("num_groups")
    per_group = x.shape[1] // groups
    return F.group_norm(
        x,
        groups,
        scale.repeat_interleave(per_group),
        bias.repeat_interleave(per_group),
        call.float("epsilon", 1e-5),
    )


@op("GroupNormalization", since=21)
def group_normalization(call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One scale and bias a channel."""
    return F.group_norm(x, call.int("num_groups"), scale, bias, call.float("epsilon", 1e-5))


@op("LRN")
def local_response_normalization(call: Call, x: torch.Tensor) -> torch.Tensor:
    """Over ``size`` neighbouring channels; for an even size ONNX looks one further ahead."""
    size = call.int("size")
    alpha, beta, bias = call.float("alpha", 1e-4), call.float("beta", 0.75), call.float("bias", 1.0)
    squares = (x * x).unsqueeze(1).flatten(3)
    before, after = (size - 1) // 2, size // 2
    padded = F.pad(squares, [0, 0, before, after])
    sums = F.avg_pool2d(padded, (size, 1), stride=1).squeeze(1).reshape(x.shape)
    return x / (bias + alpha * sums) ** beta


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(call: Call, x: torch.Tensor) -> torch.Tensor:
    axes = call.ints("axes", [0, 2, 3])
    centred = x - x.mean(dim=axes, keepdim=True)
    deviation = torch.sqrt((x * x).mean(dim=axes, keepdim=True) - x.mean(dim=axes, keepdim=True) ** 2)
    return centred / (deviation + 1e-9)


@op("LpNormalization")
def lp_normalization(call: Call, x: torch.Tensor) -> torch.Tensor:
    axis = call.int("axis", -1)
    norm = torch.linalg.vector_norm(x, ord=call.int("p", 2), dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)
