"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, VALUE, op
from graphopt.frontends.onnx.values import HostValue

_PLAIN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
}


def _register(op_type: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    @op(op_type)
    def converter(call: Call, x: torch.Tensor) -> torch.Tensor:
        return function(x)


for _name, _function in _PLAIN.items():
    _register(_name, _function)


@op("LeakyRelu")
def leaky_relu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, call.float("alpha", 0.01))


@op("PRelu", since=7)
def prelu(call: Call, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    per_channel = slope.numel() in (1, x.shape[1] if x.ndim > 1 else 1)
    if x.ndim > 1 and per_channel and slope.ndim <= x.ndim:
        aligned = [1] * (x.ndim - slope.ndim) + list(slope.shape)
        if slope.numel() == 1 or aligned[1] == slope.numel():
            return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@op("PRelu", since=1)
def prelu_legacy(call: Call, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Before opset 7 a slope of one axis stands for the channels."""
    return F.prelu(x, slope.reshape(-1))


@op("Elu")
def elu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.elu(x, call.float("alpha", 1.0))


@op("Celu", since=12)
def celu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.celu(x, call.float("alpha", 1.0))


_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


@op("Selu")
def selu(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha, gamma = call.float("alpha", _SELU_ALPHA), call.float("gamma", _SELU_GAMMA)
    if (alpha, gamma) == (_SELU_ALPHA, _SELU_GAMMA):
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@op("ThresholdedRelu", since=1)
def thresholded_relu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.threshold(x, call.float("alpha", 1.0), 0.0)


@op("Shrink", since=9)
def shrink(call: Call, x: torch.Tensor) -> torch.Tensor:
    bias, limit = call.float("bias", 0.0), call.float("lambd", 0.5)
    shrunk = torch.where(x > limit, x - bias, torch.where(x < -limit, x + bias, torch.zeros_like(x)))
    return shrunk.to(x.dtype)


@op("HardSigmoid")
def hard_sigmoid(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha, beta = call.float("alpha", 0.2), call.float("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@op("Gelu", since=20)
def gelu(call: Call, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate=call.str("approximate", "none"))


@op("Swish", since=24)
def swish(call: Call, x: torch.Tensor) -> torch.Tensor:
    alpha = call.float("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def _softmax_family(op_type: str, function: Callable[..., torch.Tensor]) -> None:
    @op(op_type, since=1)
    def flattening(call: Call, x: torch.Tensor) -> torch.Tensor:
        """Before opset 13: over all axes from ``axis`` on, as one."""
        axis = call.int("axis", 1) % max(x.ndim, 1)
        if axis == x.ndim - 1:
            return function(x, dim=-1)
        return function(x.flatten(axis), dim=-1).reshape(x.shape)

    @op(op_type, since=13)
    def per_axis(call: Call, x: torch.Tensor) -> torch.Tensor:
        return function(x, dim=call.int("axis", -1))


_softmax_family("Softmax", torch.softmax)
_softmax_family("LogSoftmax", torch.log_softmax)


@op("Hardmax", since=1)
def hardmax_flattening(call: Call, x: torch.Tensor) -> torch.Tensor:
    axis = call.int("axis", 1) % max(x.ndim, 1)
    return _one_hot_of_max(x.flatten(axis), -1).reshape(x.shape)


@op("Hardmax", since=13)
def hardmax(call: Call, x: torch.Tensor) -> torch.Tensor:
    return _one_hot_of_max(x, call.int("axis", -1))


def _one_hot_of_max(x: torch.Tensor, axis: int) -> torch.Tensor:
    first = torch.argmax(x, dim=axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1.0)


@op("Dropout", since=1, ignores=("is_test", "ratio"))
@op("Dropout", since=12, default=VALUE, kinds={1: HOST, 2: HOST}, ignores=("seed",))
def dropout(call: Call, x: Any, ratio: HostValue | None = None, training: HostValue | None = None) -> Any:
    """Where nothing is dropped the identity; the mask, where asked for, is all true."""
    if training is not None and training.number() and (ratio is None or ratio.number() != 0):
        raise call.error("is in training mode, and random", "export the model in evaluation mode")
    if not call.wants(1):
        return x
    return x, torch.full(x.shape, 1, dtype=torch.bool if call.opset >= 10 else x.dtype)
