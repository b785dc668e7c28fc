"""Calls of every operator that has a Relax converter.

A sample is a function of a :class:`Maker`; it returns the operands in schema order.  ``t.n`` is the
size that becomes symbolic in the second half of the walk, so samples put it wherever an axis may
vary.  Each converter must have one: :mod:`test_converters` fails otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten

Sample = Callable[["Maker"], tuple[Any, ...]]
SAMPLES: dict[torch._ops.OpOverload, list[Sample]] = {}


class Maker:
    """Makes operands of one dtype, reproducibly.

    Args:
        dtype: of the tensors that ``t(...)`` makes.
        n: the size of axes that may be symbolic.
    """

    def __init__(self, dtype: torch.dtype, n: int, seed: int = 0) -> None:
        self.dtype = dtype
        self.n = n
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Normal floats, integers in [-5, 5] (or [0, 10]), or booleans."""
        dtype = dtype or self.dtype
        if dtype.is_floating_point:
            return torch.randn(shape, generator=self._generator, dtype=torch.float64).to(dtype)
        if dtype == torch.bool:
            return torch.rand(shape, generator=self._generator) < 0.5
        low = 0 if dtype == torch.uint8 else -5
        return torch.randint(low, low + 11, shape, generator=self._generator).to(dtype)

    def positive(self, *shape: int) -> torch.Tensor:
        """Values that are at least a half; booleans are true."""
        value = self(*shape)
        if self.dtype == torch.bool:
            return torch.ones_like(value)
        return value.abs() + (0.5 if self.dtype.is_floating_point else 1)

    def unit(self, *shape: int) -> torch.Tensor:
        """Values in (-1, 1)."""
        return torch.tanh(self(*shape) / 2) if self.dtype.is_floating_point else self(*shape).clamp(0, 1)

    def distinct(self, *shape: int) -> torch.Tensor:
        """Values without ties, so that the order is unique (booleans have ties)."""
        count = int(torch.Size(shape).numel())
        order = torch.randperm(count, generator=self._generator).reshape(shape)
        if self.dtype.is_floating_point:
            return (order.double() / 4 - count / 8).to(self.dtype)
        return order.to(self.dtype)

    def index(
        self, *shape: int, size: int, dtype: torch.dtype = torch.int64, negative: bool = True
    ) -> torch.Tensor:
        """Positions on an axis of ``size``, half of them counted from the end."""
        value = torch.randint(0, size, shape, generator=self._generator)
        if negative:
            value = torch.where(torch.rand(shape, generator=self._generator) < 0.5, value - size, value)
        return value.to(dtype)

    def permutation(self, size: int) -> torch.Tensor:
        return torch.randperm(size, generator=self._generator)

    def mask(self, *shape: int) -> torch.Tensor:
        return self(*shape, dtype=torch.bool)

    def number(self, value: float) -> float | int | bool:
        """A Python number of the dtype's kind."""
        if self.dtype.is_floating_point:
            return float(value)
        return bool(value) if self.dtype == torch.bool else int(value)


def case(*targets: torch._ops.OpOverload) -> Callable[[Sample], Sample]:
    """Adds the sample to each of ``targets``."""

    def add(sample: Sample) -> Sample:
        for target in targets:
            SAMPLES.setdefault(target, []).append(sample)
        return sample

    return add


def cases(targets: list[torch._ops.OpOverload], *samples: Sample) -> None:
    for sample in samples:
        case(*targets)(sample)


def overloads(*names: str) -> list[torch._ops.OpOverload]:
    """``"add.Tensor"`` -> ``aten.add.Tensor``; the default overload may be left out."""
    found = []
    for name in names:
        packet, _, overload = name.partition(".")
        found.append(getattr(getattr(aten, packet), overload or "default"))
    return found
