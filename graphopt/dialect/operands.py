"""Checks of operands that the families share, with messages that name the op and the operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.op import FLOATING
from graphopt.errors import InputError


def reject(op: str, message: str) -> InputError:
    """The error for operands that ``op`` does not take; the caller raises it."""
    return InputError(f"graphopt::{op}: {message}", code="GO-3006")


def check_floating(op: str, **tensors: torch.Tensor | None) -> None:
    """All tensors given are floating point, of one dtype.

    Raises:
        InputError: naming the first operand that is not.
    """
    given = {name: t for name, t in tensors.items() if t is not None}
    first_name, first = next(iter(given.items()))
    if first.dtype not in FLOATING:
        raise reject(op, f"{first_name} is {first.dtype}, a floating-point tensor is needed")
    for name, tensor in given.items():
        if tensor.dtype != first.dtype:
            raise reject(op, f"{name} is {tensor.dtype} but {first_name} is {first.dtype}")


def check_broadcasts(op: str, name: str, shape: Sequence[Any], onto: str, target: Sequence[Any]) -> None:
    """``shape`` broadcasts to ``target`` without changing it.

    Raises:
        InputError: naming both operands and shapes.
    """
    fits = len(shape) <= len(target) and all(
        size == 1 or size == wanted for size, wanted in zip(reversed(shape), reversed(target), strict=False)
    )
    if not fits:
        raise reject(op, f"{name} of shape {tuple(shape)} does not broadcast to {onto} {tuple(target)}")


def opmath(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the dtype that half-precision ops compute in: float32; others unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def fake_like(x: torch.Tensor, *_: Any) -> torch.Tensor:
    """The fake kernel of ops whose result has the shape and dtype of the first operand."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def sum_to(tensor: torch.Tensor, shape: Sequence[Any]) -> torch.Tensor:
    """The gradient of a broadcast from ``shape`` to ``tensor.shape``."""
    lead = tensor.dim() - len(shape)
    axes = [*range(lead)] + [
        lead + i for i, size in enumerate(shape) if size == 1 and tensor.shape[lead + i] != 1
    ]
    return (tensor.sum(axes, keepdim=True) if axes else tensor).reshape(shape)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """A float32 sample tensor, normally distributed, the same in every process."""
    generator = torch.Generator().manual_seed(seed + 7919 * sum(shape))
    return torch.randn(shape, generator=generator) * scale
