"""Products and convolutions of 8-bit integers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import nn

from graphopt.fuzz.kernels.case import SIZES, KernelCase, axes_of, case_of
from graphopt.fuzz.kernels.quantized import DyadicRequantize, FloatRequantize, IntegerConv2d, IntegerLinear


def _bytes(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    limits = torch.iinfo(dtype)
    return torch.randint(limits.min, limits.max + 1, shape, dtype=dtype)


def _offsets(rng: random.Random, dtype: torch.dtype, outputs: int) -> tuple[int, torch.Tensor | None]:
    """A zero point, seldom one that ``dtype`` does not have, and a bias or none."""
    limits = torch.iinfo(dtype)
    zero = rng.choice((0, rng.randint(limits.min, limits.max), limits.max, limits.min, -200))
    bias = torch.randint(-(1 << 20), 1 << 20, (outputs,), dtype=torch.int32)
    return zero, bias if rng.random() < 0.6 else None


def _integer_weight(rng: random.Random, *shape: int) -> torch.Tensor:
    """Mostly int8; sometimes the differences of uint8 and a zero point, which have nine bits."""
    if rng.random() < 0.2:
        return torch.randint(-255, 256, shape, dtype=torch.int32)
    return _bytes(torch.int8, *shape)


def _requantize(rng: random.Random, outputs: int, depth: int, shape: Sequence[int]) -> nn.Module:
    """What follows a sum of ``depth`` products: nothing, a dyadic factor, or one in float32."""
    factor = (torch.rand(outputs) + 0.5) / (40 * depth**0.5)
    dtype = rng.choice((torch.int8, torch.uint8))
    choices: tuple[Callable[[], nn.Module], ...] = (
        nn.Identity,
        lambda: DyadicRequantize(factor, shape, dtype, low=rng.choice((None, 0))),
        lambda: FloatRequantize(factor, shape, dtype, zero=rng.randint(0, 127)),
    )
    return rng.choice(choices)()


def integer_linear(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    zero, bias = _offsets(rng, dtype, columns)
    layer = IntegerLinear(_integer_weight(rng, columns, depth), bias, zero)
    lead = rng.choice([(), (2,), (3, 2)])
    part = nn.Sequential(layer, _requantize(rng, columns, depth, (-1,)))
    axes = axes_of(rng, rows=len(lead))
    return case_of(lambda part, x: part(x), [_bytes(dtype, *lead, rows, depth)], axes, part)


def integer_convolution(rng: random.Random, dtype: torch.dtype, depthwise: bool) -> KernelCase:
    kernel = (rng.choice((1, 2, 3, 5)), rng.choice((1, 3, 4)))
    stride = (rng.choice((1, 1, 2, 3)), rng.choice((1, 2)))  # torch dilates no integer convolution
    padding = rng.randint(0, kernel[0] - 1), rng.randint(0, kernel[1] - 1)
    height, width = (k + rng.choice((0, 1, 4, 9, 14, 20)) for k in kernel)
    if depthwise:
        channels = outputs = groups = rng.choice((4, 7, 8, 12, 16, 24, 32, 40, 52))
    else:
        groups, channels, outputs = 1, rng.choice((1, 3, 5, 8, 16, 33)), rng.choice((1, 4, 8, 18, 24, 40, 64))
    zero, bias = _offsets(rng, dtype, outputs)
    weight = _integer_weight(rng, outputs, channels // groups, *kernel)
    layer = IntegerConv2d(weight, bias, zero, stride, padding, groups=groups)
    after = _requantize(rng, outputs, weight[0].numel(), (-1, 1, 1))
    # A second one, on what the first gives: sums, or bytes with their channels last.
    residual = rng.random() < 0.3
    x = _bytes(dtype, rng.choice((1, 2)), channels, height, width)
    axes = axes_of(rng, height=2, width=3) if min(height, width) > 6 else None

    def apply(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = part(x)
        return (
            (y.to(torch.int32) + y.to(torch.int32).clamp(min=3)).clamp(-128, 127).to(torch.int8)
            if residual
            else y
        )

    return case_of(apply, [x], axes, nn.Sequential(layer, after))
