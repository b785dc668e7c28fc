"""Small kernels as lowering writes them, and a stand-in for the process that measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import tvm
from torch import nn

from graphopt.codegen import find_target
from graphopt.codegen.pipeline import FUSE, run_pipeline
from graphopt.codegen.relax import lower
from graphopt.codegen.targets import Target
from graphopt.codegen.tuning.kernel import Kernel, find_kernels
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program

TARGET: Target = find_target("x86-64-v3")
"""Of fixed features and cores, so that the same tests see the same choices everywhere."""


def program_of(module: nn.Module, *inputs: torch.Tensor, dynamic: Sequence[Any] | None = None) -> Program:
    torch.manual_seed(0)
    return capture_torch(module.eval(), inputs, dynamic_shapes=dynamic)


def fused(program: Program, target: Target = TARGET) -> tvm.IRModule:
    return run_pipeline(lower(program, target).mod, target, FUSE)


def kernels_of(module: nn.Module, *inputs: torch.Tensor, target: Target = TARGET) -> list[Kernel]:
    return find_kernels(fused(program_of(module, *inputs), target), target)


class ScriptedMeasuring:
    """Answers what ``times`` says: microseconds by kernel's name and decisions, the default's for none.

    Attributes:
        asked: every candidate, in order.
    """

    def __init__(self, times: Callable[[str, dict[str, int]], Any]) -> None:
        self.times = times
        self.asked: list[tuple[str, dict[str, int]]] = []
        self.defaults: list[str] = []
        self.closed = False

    def default(self, kernel: Kernel, rounds: int) -> dict[str, Any]:
        self.defaults.append(kernel.name)
        return {"microseconds": self.times(kernel.name, {})}

    def attempt(self, kernel: Kernel, decisions: dict[str, int], rounds: int) -> dict[str, Any]:
        self.asked.append((kernel.name, decisions))
        found = self.times(kernel.name, decisions)
        if isinstance(found, dict):
            return found
        default = self.times(kernel.name, {})
        return {"status": "measured", "microseconds": found, "default_microseconds": default}

    def close(self) -> None:
        self.closed = True
