"""The correct kernels that mutations start from: one for each way in which schedules use a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from graphopt.codegen import find_target
from graphopt.codegen.emulate.lowering import LoweredFunction

TARGET = "cuda"


@dataclass(frozen=True)
class Subject:
    """A kernel: what it means, and its code."""

    meaning: Any
    lowered: LoweredFunction


class _Taken(Exception):
    def __init__(self, meanings: Mapping[str, Any], lowered: Mapping[str, LoweredFunction]) -> None:
        super().__init__()
        self.meanings, self.lowered = meanings, lowered


@cache
def subject(name: str) -> Subject:
    """``tensor-core``, ``cuda-core``, ``staged``, ``reduction``, ``rows``, ``ragged`` or ``elementwise``."""
    from graphopt.codegen.compiler import compile
    from graphopt.frontends.torch_module import capture_torch

    module, example, part = _make(name)
    program = capture_torch(module.eval(), (example,))

    def inspect(meanings: Mapping[str, Any], lowered: Mapping[str, LoweredFunction]) -> None:
        raise _Taken(meanings, lowered)

    try:
        compile(program, find_target(TARGET), cache=False, inspect=inspect)
    except _Taken as taken:
        found = next(n for n in sorted(taken.lowered) if part in n)
        return Subject(taken.meanings[found], taken.lowered[found])
    raise LookupError(f"no kernel of {name}")


def _make(name: str) -> tuple[nn.Module, torch.Tensor, str]:
    torch.manual_seed(0)
    if name == "tensor-core":  # fragments, asynchronous copies, vectors of float16
        return _Linear(torch.float16), torch.randn(40, 256).half(), "gemm"
    if name == "cuda-core":  # a pipeline of asynchronous copies
        return _Linear(torch.float32), torch.randn(40, 128), "gemm"
    if name == "staged":  # shared memory filled by all threads, in a loop
        return nn.Conv2d(3, 16, 3, padding=1), torch.randn(2, 3, 13, 13), "conv2d"
    if name == "reduction":  # shuffles, and shared memory between warps
        return nn.Softmax(-1), torch.randn(3, 2600), "softmax"
    if name == "rows":  # a warp a row, vectors, a tail of rows
        return nn.Softmax(-1), torch.randn(520, 128).half(), "softmax"
    if name == "ragged":  # rows that are no multiple of a warp
        return nn.Softmax(-1), torch.randn(7, 50), "softmax"
    if name == "elementwise":
        return _Elementwise(), torch.randn(5, 777), ""
    raise LookupError(name)


class _Linear(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        depth = 256 if dtype == torch.float16 else 128
        self.linear = nn.Linear(depth, 96).to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


class _Elementwise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x + 1
