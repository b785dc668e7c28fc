"""Deformable convolution (https://arxiv.org/abs/1811.11168)."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.padding import split_pads
from graphopt.frontends.onnx.registry import op


@op("DeformConv", since=19, ignores=("kernel_shape",))
def deform_conv(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """X [N, C, H, W], W [M, C/group, kh, kw], offset [N, G*kh*kw*2, oh, ow], mask [N, G*kh*kw, oh, ow].

    G is the number of offset groups.  Every tap of the kernel reads X between pixels, where its offset
    moves it; outside X is zero.
    """
    if x.ndim != 4:
        raise call.error(f"has {x.ndim - 2} spatial dimensions; 2 are supported")
    n, channels, height, width = x.shape
    out_channels, _, kh, kw = weight.shape
    taps = kh * kw
    groups, moved_groups = call.int("group", 1), call.int("offset_group", 1)
    strides, dilations = call.ints("strides", [1, 1]), call.ints("dilations", [1, 1])
    begin, _ = split_pads(call.ints("pads"), 2)
    oh, ow = offset.shape[2:]
    moves = offset.reshape(n, moved_groups, taps, 2, oh, ow)
    positions = []
    for axis, (steps, other) in enumerate(((oh, kw), (ow, kh))):
        tap = torch.arange(kh if axis == 0 else kw, device=x.device) * dilations[axis]
        tap = tap.repeat_interleave(other) if axis == 0 else tap.repeat(other)
        base = torch.arange(steps, device=x.device) * strides[axis] - begin[axis]
        base = base.reshape(-1, 1) if axis == 0 else base.reshape(1, -1)
        positions.append(moves[:, :, :, axis] + (tap.reshape(-1, 1, 1) + base).to(x.dtype))
    source = x.reshape(n, moved_groups, channels // moved_groups, height * width)
    read = _between_pixels(source, positions, height, width)
    if mask is not None:
        read = read * mask.reshape(n, moved_groups, 1, taps, oh, ow)
    columns = read.reshape(n, groups, channels // groups * taps, oh * ow)
    kernels = weight.reshape(groups, out_channels // groups, channels // groups * taps)
    y = torch.matmul(kernels, columns).reshape(n, out_channels, oh, ow)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def _between_pixels(
    source: torch.Tensor, positions: list[torch.Tensor], height: Any, width: Any
) -> torch.Tensor:
    """Bilinear values of planes [N, G, C, H*W] at y and x, each [N, G, *places]: [N, G, C, *places]."""
    y, x = positions
    top, left = torch.floor(y), torch.floor(x)
    total: Any = 0
    for row, y_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, x_weight in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = torch.where(inside, y_weight * x_weight, torch.zeros_like(y))
            index = torch.where(inside, row * width + column, torch.zeros_like(y)).to(torch.int64)
            index = index.unsqueeze(2).expand([*y.shape[:2], source.shape[2], *y.shape[2:]])
            pixel = source.gather(3, index.flatten(3)).reshape(index.shape)
            total = total + pixel * weight.unsqueeze(2)
    return total
