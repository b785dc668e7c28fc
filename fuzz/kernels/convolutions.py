"""Convolutions: dense, depthwise, grouped, of one axis, transposed."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

from graphopt.fuzz.kernels.case import KernelCase, axes_of, case_of, epilogue, values


def convolution(rng: random.Random, dtype: torch.dtype, kind: str) -> KernelCase:
    kernel = (rng.choice((1, 2, 3, 5)), rng.choice((1, 3, 4)))
    stride, dilation = (rng.choice((1, 1, 2, 3)), rng.choice((1, 2))), rng.choice((1, 1, 2))
    padding = rng.randint(0, dilation * (kernel[0] - 1)), rng.randint(0, dilation * (kernel[1] - 1))
    reach = [dilation * (k - 1) + 1 for k in kernel]
    height, width = (r + rng.choice((0, 1, 4, 9, 14, 20)) for r in reach)
    if kind == "depthwise":
        channels = outputs = groups = rng.choice((4, 7, 8, 12, 16, 24, 32, 40, 52))
    elif kind == "grouped":
        groups = rng.choice((2, 3))
        channels, outputs = groups * rng.choice((1, 4, 5)), groups * rng.choice((2, 8, 16))
    else:
        groups, channels, outputs = 1, rng.choice((1, 3, 5, 8, 16, 33)), rng.choice((1, 4, 8, 18, 24, 40, 64))
    layer = nn.Conv2d(
        channels, outputs, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5
    )  # fmt: skip
    after = epilogue(rng)
    before = F.relu if rng.random() < 0.3 else lambda x: x
    x = values(dtype, rng.choice((1, 2)), channels, height, width)
    axes = axes_of(rng, height=2, width=3) if min(height - reach[0], width - reach[1]) >= 4 else None
    return case_of(lambda part, x: after(part(before(x))), [x], axes, layer)


def winograd(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    channels, outputs = rng.choice((4, 7, 8, 16, 24, 32, 48, 64)), rng.choice((4, 8, 20, 24, 33, 48, 64))
    padding = rng.randint(0, 2), rng.randint(0, 2)
    layer = nn.Conv2d(channels, outputs, 3, padding=padding, bias=rng.random() < 0.5)
    height, width = (rng.choice((3, 7, 8, 12, 13, 17, 20, 28, 31)) for _ in range(2))
    x = values(dtype, rng.choice((1, 1, 2)), channels, height, width)
    if rng.random() < 0.4:
        # Rows of another size: rounding errors of their tiles reach the pixels beside them.
        x[..., rng.randrange(height), :] *= 2.0 ** rng.choice((-7, 7))
    after = epilogue(rng)
    residual = rng.random() < 0.3
    same = padding == (1, 1) and channels == outputs
    axes = [{0: "batch"}] if x.shape[0] > 1 and rng.random() < 0.5 else None

    def convolved(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return after(part(x) + x) if residual and same else after(part(x))

    return case_of(convolved, [x], axes, layer)


def convolution_1d(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kernel, stride, dilation = rng.choice((1, 2, 3, 7)), rng.choice((1, 2)), rng.choice((1, 1, 3))
    groups = rng.choice((1, 1, 2, 8))
    channels, outputs = groups * rng.choice((1, 2, 5)), groups * rng.choice((1, 4, 12))
    padding = rng.randint(0, dilation * (kernel - 1))
    layer = nn.Conv1d(channels, outputs, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5)
    after = epilogue(rng)
    x = values(dtype, rng.choice((1, 2)), channels, dilation * (kernel - 1) + rng.choice((4, 9, 33)))
    return case_of(lambda part, x: after(part(x)), [x], axes_of(rng, length=2), layer)


def transposed_convolution(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kernel = rng.choice((1, 2, 3, 4))
    stride = kernel if rng.random() < 0.4 else rng.choice((1, 2, 3))
    channels, outputs = rng.choice((1, 5, 16)), rng.choice((1, 3, 8, 22, 24))
    layer = nn.ConvTranspose2d(
        channels, outputs, kernel, stride, rng.randint(0, kernel // 2), rng.randint(0, stride - 1),
        bias=rng.random() < 0.5,
    )  # fmt: skip
    after = epilogue(rng)
    batch, height, width = rng.choice((1, 2)), rng.choice((1, 3, 9)), rng.choice((2, 5, 17))
    if height == 1 and kernel + layer.output_padding[0] == 2 * layer.padding[0]:
        height = 2  # of one row the padding would leave nothing
    x = values(dtype, batch, channels, height, width)
    return case_of(lambda part, x: after(part(x)), [x], None, layer)
