"""Chains of functions whose fused expressions would be too large are kernels of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import graphopt as go
from graphopt.codegen.compiler import compile
from graphopt.verification import verify

Function = Callable[[Tensor], Tensor]


class Chain(nn.Module):
    def __init__(self, *functions: Function) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: Tensor) -> Tensor:
        for function in self.functions:
            x = function(x)
        return x


@pytest.mark.parametrize(
    ("functions", "kernels"),
    [
        ((torch.exp, torch.sigmoid), 1),
        ((F.relu, F.gelu, torch.neg), 1),
        ((torch.erf, torch.erf), 2),
        ((F.gelu, F.gelu, F.gelu), 2),  # the first two are one kernel, called twice
        ((torch.tanh, torch.tanh, lambda x: x + x, torch.tanh), 3),
    ],
    ids=["exp", "relu", "erf", "gelu", "tanh"],
)
def test_large_expressions_are_parted(functions: tuple[Function, ...], kernels: int) -> None:
    program = go.capture(Chain(*functions).eval(), (torch.rand(3, 33) - 0.5,))
    start = time.process_time()
    artifact = compile(program, "cpu", cache=False, tuned=False)
    assert time.process_time() - start < 30  # minutes, and gigabytes, in one expression
    assert len(artifact.kernels()) == kernels, artifact.kernels()
    verify(program, artifact).raise_if_failed()
