"""Recurrent layers."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

from graphopt.fuzz.kernels.case import KernelCase, axes_of, case_of, values


def recurrent(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kind = rng.choice((nn.LSTM, nn.GRU, nn.RNN))
    options: dict[str, Any] = {"nonlinearity": rng.choice(("tanh", "relu"))} if kind is nn.RNN else {}
    hidden, batch, steps = (
        rng.choice((1, 5, 16, 19, 33, 40)),
        rng.choice((1, 2, 5, 8, 13)),
        rng.choice((1, 2, 7)),
    )
    layer = kind(
        rng.choice((4, 9)), hidden, rng.choice((1, 1, 2)), bias=rng.random() < 0.7,
        batch_first=rng.random() < 0.5, bidirectional=rng.random() < 0.5, **options,
    )  # fmt: skip
    x = values(dtype, *((batch, steps) if layer.batch_first else (steps, batch)), layer.input_size)
    axes = None
    if dtype == torch.float32 and batch > 1 and steps > 1:
        axes = axes_of(rng, one=0, other=1)
    if rng.random() < 0.5:
        return case_of(lambda part, x: part(x), [x], axes, layer)
    sides = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [values(dtype, sides, batch, hidden) for _ in range(2 if kind is nn.LSTM else 1)]
    if kind is nn.LSTM:
        return case_of(lambda part, x, h, c: part(x, (h, c)), [x, *states], None, layer)
    return case_of(lambda part, x, h: part(x, h), [x, *states], None, layer)
