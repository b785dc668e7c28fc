"""What a random kernel is, and what its families draw from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 64, 97)


SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 64, 97)
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
BYTES = (torch.int8, torch.uint8)


@dataclass(frozen=True)
class KernelCase:
    """A module to compile.

    Attributes:
        module: in eval mode.
        inputs: examples.
        dynamic_shapes: symbolic axes of each input by name, or None.
    """

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    dynamic_shapes: tuple[dict[int, str], ...] | None = None


@dataclass(frozen=True)
class KernelFamily:
    """Kernels that one schedule rule is for.

    Attributes:
        name: of the family.
        rule: the schedule rule that some of its kernels take on CPUs.
        dtypes: that it is drawn in.
        draw: a case from a source of randomness and a dtype.
    """

    name: str
    rule: str
    dtypes: tuple[torch.dtype, ...]
    draw: Callable[[random.Random, torch.dtype], KernelCase]

    def case(self, seed: int) -> KernelCase:
        """The case of a seed: always the same one."""
        rng = random.Random(f"{self.name}-{seed}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.draw(rng, rng.choice(self.dtypes))


class Function(nn.Module):
    """A function of tensors as a module; a module in ``part`` is registered, so that it keeps weights."""

    def __init__(self, function: Callable[..., Any], part: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.part = function, part

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs) if self.part is None else self.function(self.part, *inputs)


def case_of(
    function: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    dynamic: Sequence[dict[int, str]] | None = None,
    part: nn.Module | None = None,
) -> KernelCase:
    """A case of a function, which gets ``part`` as its first argument where there is one."""
    module = Function(function, part).eval()
    if part is not None and inputs[0].dtype.is_floating_point:
        module = module.to(inputs[0].dtype)
    return KernelCase(module, tuple(inputs), tuple(dynamic) if dynamic else None)


def values(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Normal numbers, or integers from -5 to 5 (from 0 where there are no others)."""
    if dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.float32).to(dtype)
    return torch.randint(0 if dtype == torch.uint8 else -5, 6, shape, dtype=dtype)


def epilogue(rng: random.Random) -> Callable[[torch.Tensor], torch.Tensor]:
    """What follows a product, and joins its kernel."""
    choices: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda y: y, F.relu, F.gelu, F.silu, F.hardswish, torch.sigmoid, lambda y: y + y.abs(),
        lambda y: y.clamp(-1, 1) * 2,
    )  # fmt: skip
    return rng.choice(choices)


def axes_of(rng: random.Random, **axes: int) -> list[dict[int, str]] | None:
    """Some of the axes of the one input as symbolic ones."""
    chosen = {axis: name for name, axis in axes.items() if rng.random() < 0.7} if rng.random() < 0.4 else {}
    return [chosen] if chosen else None
