"""Operators on the layout of images and sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue


@op("DepthToSpace", since=1)
def depth_to_space(call: Call, x: torch.Tensor) -> torch.Tensor:
    block = call.int("blocksize")
    n, c, h, w = x.shape
    if call.str("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    y = x.reshape(n, block, block, c // (block * block), h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // (block * block), h * block, w * block)


@op("SpaceToDepth", since=1)
def space_to_depth(call: Call, x: torch.Tensor) -> torch.Tensor:
    block = call.int("blocksize")
    if call.str("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(x, block)
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block * block, h // block, w // block)


@op("ReverseSequence", since=10)
def reverse_sequence(call: Call, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    time, batch = call.int("time_axis", 0), call.int("batch_axis", 1)
    steps = torch.arange(x.shape[time], device=x.device)
    shape = [1] * x.ndim
    shape[time] = x.shape[time]
    steps = steps.reshape(shape)
    shape = [1] * x.ndim
    shape[batch] = x.shape[batch]
    limit = lengths.reshape(shape)
    index = torch.where(steps < limit, limit - 1 - steps, steps)
    return torch.gather(x, time, index.expand(x.shape))


@op("GridSample", since=16)
def grid_sample(call: Call, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    mode = call.str("mode", "bilinear")
    names = {"linear": "bilinear", "cubic": "bicubic"}
    padding = call.str("padding_mode", "zeros")
    return F.grid_sample(x, grid, names.get(mode, mode), padding, call.flag("align_corners"))


@op("AffineGrid", since=20, kinds={1: HOST})
def affine_grid(call: Call, theta: torch.Tensor, size: HostValue) -> torch.Tensor:
    return F.affine_grid(theta, size.numbers(), call.flag("align_corners"))


@op("Col2Im", since=18, kinds={1: HOST, 2: HOST})
def col2im(call: Call, x: torch.Tensor, image: HostValue, block: HostValue) -> torch.Tensor:
    """X [N, C * product(block), L] -> [N, C, *image]."""
    rank = image.size
    if rank != 2:
        raise call.error(f"folds {rank} spatial dimensions; 2 are supported")
    pads = call.ints("pads", [0] * 2 * rank)
    if pads[:rank] != pads[rank:]:
        raise call.error("has unequal pads")
    return F.fold(
        x,
        tuple(image.numbers()),
        tuple(block.numbers()),
        call.ints("dilations", [1] * rank),
        pads[:rank],
        call.ints("strides", [1] * rank),
    )
