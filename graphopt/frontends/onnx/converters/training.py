"""Optimiser steps of ``ai.onnx.preview.training``.

Inputs are the learning rate R, the step T, and then each kind of tensor for all parameters in turn;
outputs are the new parameters and the new moments, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import op

_DOMAIN = "ai.onnx.preview.training"
Step = Callable[..., tuple[torch.Tensor, ...]]


def _register(op_type: str, tensors: int, step: Step) -> None:
    """``tensors`` of each parameter go into ``step(call, rate, time, *tensors)``."""

    @op(op_type, domain=_DOMAIN)
    def update(
        call: Call, rate: torch.Tensor, time: torch.Tensor, *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        count, rest = divmod(len(inputs), tensors)
        if rest:
            raise call.error(f"has {len(inputs)} tensors, which is no multiple of {tensors}")
        new = [step(call, rate, time, *inputs[i::count]) for i in range(count)]
        return tuple(column for kind in zip(*new, strict=True) for column in kind)


def _regularised(call: Call, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return call.float("norm_coefficient", 0.0) * x + gradient


def _momentum(
    call: Call,
    rate: torch.Tensor,
    time: torch.Tensor,
    x: torch.Tensor,
    gradient: torch.Tensor,
    velocity: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Plain or Nesterov's momentum; the first step takes the gradient whole."""
    gradient = _regularised(call, x, gradient)
    alpha = call.float("alpha")
    share = torch.where(time > 0, call.float("beta"), 1.0).to(x.dtype)
    velocity = alpha * velocity + share * gradient
    mode = call.str("mode")
    if mode not in ("standard", "nesterov"):
        raise call.error(f"has the mode {mode!r}; standard and nesterov are defined")
    return x - rate * (gradient + alpha * velocity if mode == "nesterov" else velocity), velocity


def _adagrad(
    call: Call,
    rate: torch.Tensor,
    time: torch.Tensor,
    x: torch.Tensor,
    gradient: torch.Tensor,
    squares: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    rate = rate / (1 + time.to(rate.dtype) * call.float("decay_factor", 0.0))
    gradient = _regularised(call, x, gradient)
    squares = squares + gradient * gradient
    return x - rate * gradient / (torch.sqrt(squares) + call.float("epsilon", 1e-6)), squares


def _adam(
    call: Call,
    rate: torch.Tensor,
    time: torch.Tensor,
    x: torch.Tensor,
    gradient: torch.Tensor,
    mean: torch.Tensor,
    squares: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """With the bias correction of https://arxiv.org/abs/1412.6980, section 2, after the first step."""
    alpha, beta = call.float("alpha", 0.9), call.float("beta", 0.999)
    gradient = _regularised(call, x, gradient)
    mean = alpha * mean + (1 - alpha) * gradient
    squares = beta * squares + (1 - beta) * (gradient * gradient)
    steps = time.to(rate.dtype)
    corrected = rate * torch.sqrt(1 - beta**steps) / (1 - alpha**steps)
    rate = torch.where(time > 0, corrected, rate)
    x = x - rate * (mean / (torch.sqrt(squares) + call.float("epsilon", 1e-6)))
    return (1 - call.float("norm_coefficient_post", 0.0)) * x, mean, squares


_register("Momentum", 3, _momentum)
_register("Adagrad", 3, _adagrad)
_register("Adam", 4, _adam)
