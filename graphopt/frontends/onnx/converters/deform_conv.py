"""Deformable convolution (https://arxiv.org/abs/1811.11168)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

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
    grids = []
    for axis, (size, steps, other) in enumerate(((height, oh, kw), (width, ow, kh))):
        tap = torch.arange(kh if axis == 0 else kw, device=x.device) * dilations[axis]
        tap = tap.repeat_interleave(other) if axis == 0 else tap.repeat(other)
        base = torch.arange(steps, device=x.device) * strides[axis] - begin[axis]
        base = base.reshape(-1, 1) if axis == 0 else base.reshape(1, -1)
        position = moves[:, :, :, axis] + (tap.reshape(-1, 1, 1) + base).to(x.dtype)
        # grid_sample's coordinates: -1 and 1 are the outer edges of the first and last pixel.
        grids.append((2 * position + 1) / size - 1)
    grid = torch.stack([grids[1], grids[0]], dim=-1).reshape(n * moved_groups, taps * oh, ow, 2)
    source = x.reshape(n * moved_groups, channels // moved_groups, height, width)
    read = F.grid_sample(source, grid, "bilinear", "zeros", align_corners=False)
    read = read.reshape(n, moved_groups, channels // moved_groups, taps, oh, ow)
    if mask is not None:
        read = read * mask.reshape(n, moved_groups, 1, taps, oh, ow)
    columns = read.reshape(n, groups, channels // groups * taps, oh * ow)
    kernels = weight.reshape(groups, out_channels // groups, channels // groups * taps)
    y = torch.matmul(kernels, columns).reshape(n, out_channels, oh, ow)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)
