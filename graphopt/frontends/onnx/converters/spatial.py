"""Operators on the layout of images and sequences."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.padding import pad_spatial
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
    pads = call.ints("pads", [0] * 2 * rank)
    strides, dilations = call.ints("strides", [1] * rank), call.ints("dilations", [1] * rank)
    if rank == 2 and pads[:rank] == pads[rank:]:
        return F.fold(x, tuple(image.numbers()), tuple(block.numbers()), dilations, pads[:rank], strides)
    sizes, taps = image.numbers(), block.numbers()
    if not all(isinstance(n, int) for n in (*sizes, *taps)):
        raise call.error(f"folds {rank} spatial dimensions with unequal pads or to a dynamic size")
    padded = [n + b + e for n, b, e in zip(sizes, pads[:rank], pads[rank:], strict=True)]
    places = _positions(padded, taps, strides, dilations)
    n, channels = x.shape[0], x.shape[1] // math.prod(taps)
    flat = x.new_zeros([n, channels, math.prod(padded)])
    flat = flat.index_add(2, call.array(places), x.reshape(n, channels, len(places)))
    return pad_spatial(
        flat.reshape([n, channels, *padded]), [-p for p in pads[:rank]], [-p for p in pads[rank:]]
    )


def _positions(sizes: list[int], taps: list[int], strides: list[int], dilations: list[int]) -> np.ndarray:
    """Flat positions in an image of what each tap of each block stands for: taps first, row-major."""
    flat = np.zeros([1, 1], dtype=np.int64)
    for size, tap, stride, dilation in zip(sizes, taps, strides, dilations, strict=True):
        blocks = (size - dilation * (tap - 1) - 1) // stride + 1
        place = np.arange(tap)[:, None] * dilation + np.arange(blocks)[None, :] * stride
        flat = flat[:, None, :, None] * size + place[None, :, None, :]
        flat = flat.reshape(flat.shape[0] * tap, flat.shape[2] * blocks)
    return flat.reshape(-1)


@op("CenterCropPad", since=18, kinds={1: HOST})
def center_crop_pad(call: Call, x: torch.Tensor, shape: HostValue) -> torch.Tensor:
    """Crops or pads each axis in the middle; where that is uneven, the end has one more."""
    for axis, wanted in zip(call.ints("axes", list(range(x.ndim))), shape.numbers(), strict=True):
        size = x.shape[axis]
        if isinstance(size, int) and isinstance(wanted, int):
            kept, surplus, lack = min(size, wanted), max(size - wanted, 0), max(wanted - size, 0)
        else:
            kept = torch.sym_min(size, wanted)
            surplus, lack = size - kept, wanted - kept
        x = x.narrow(axis, surplus // 2, kept)
        # F.pad counts axes from the last.
        x = F.pad(x, [0, 0] * (x.ndim - 1 - axis % x.ndim) + [lack // 2, lack - lack // 2])
    return x
