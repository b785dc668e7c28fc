"""Convolutions, in one to three spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.padding import pad_spatial, same_pads, split_pads
from graphopt.frontends.onnx.registry import op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@op("Conv", since=1, ignores=("kernel_shape", "pads"))
def conv(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """X [N, C, *size], W [M, C/group, *kernel] -> [N, M, *size']."""
    return convolve(call, x, weight, bias)


def convolve(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A convolution with the strides, pads, dilations and groups that the node gives."""
    rank = x.ndim - 2
    if rank not in _CONV:
        raise call.error(f"has {rank} spatial dimensions; 1 to 3 are supported")
    strides = call.ints("strides", [1] * rank)
    dilations = call.ints("dilations", [1] * rank)
    kernel = list(weight.shape[2:])
    auto_pad = call.str("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = same_pads(x.shape[2:], kernel, strides, dilations, auto_pad)
    else:
        begin, end = split_pads(call.ints("pads"), rank) if auto_pad == "NOTSET" else ([0] * rank, [0] * rank)
    padding = begin
    if any(b is not e and b != e for b, e in zip(begin, end, strict=True)) or min(*begin, *end, 0) < 0:
        x, padding = pad_spatial(x, begin, end), [0] * rank
    return _CONV[rank](x, weight, bias, strides, padding, dilations, call.int("group", 1))


@op("ConvTranspose", since=1, ignores=("auto_pad", "kernel_shape", "pads"))
def conv_transpose(
    call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """X [N, C, *size], W [C, M/group, *kernel] -> [N, M, *size'].

    torch pads both sides alike: unequal pads become a crop of the unpadded result.
    """
    rank = x.ndim - 2
    if rank not in _TRANSPOSE:
        raise call.error(f"has {rank} spatial dimensions; 1 to 3 are supported")
    strides = call.ints("strides", [1] * rank)
    dilations = call.ints("dilations", [1] * rank)
    extra = call.ints("output_padding", [0] * rank)
    group = call.int("group", 1)
    kernel = list(weight.shape[2:])
    begin, end = _transpose_pads(call, x, kernel, strides, dilations, extra)
    symmetric = all(isinstance(b, int) and b == e for b, e in zip(begin, end, strict=True))
    fits = all(o < max(s, d) for o, s, d in zip(extra, strides, dilations, strict=True))
    if symmetric and min(begin) >= 0 and fits:
        return _TRANSPOSE[rank](x, weight, bias, strides, begin, extra, group, dilations)
    full = _TRANSPOSE[rank](x, weight, bias, strides, [0] * rank, [0] * rank, group, dilations)
    # What output_padding adds beyond the last input's reach holds the bias alone.
    crop = [o - e for o, e in zip(extra, end, strict=True)]
    return _crop_or_extend(full, bias, begin, crop)


def _transpose_pads(
    call: Call,
    x: torch.Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    extra: Sequence[int],
) -> tuple[list[Any], list[Any]]:
    rank = x.ndim - 2
    auto_pad = call.str("auto_pad", "NOTSET")
    wanted = call.ints("output_shape")
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is None:
        if auto_pad == "VALID":
            return [0] * rank, [0] * rank
        return split_pads(call.ints("pads"), rank)
    begin, end = [], []
    for i, out in enumerate(wanted[-rank:]):
        reach = strides[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = reach - out
        half = total // 2
        small_first = auto_pad == "SAME_UPPER"
        begin.append(half if small_first else total - half)
        end.append(total - half if small_first else half)
    return begin, end


def _crop_or_extend(
    full: torch.Tensor, bias: torch.Tensor | None, begin: Sequence[Any], extend: Sequence[Any]
) -> torch.Tensor:
    for axis, (start, more) in enumerate(zip(begin, extend, strict=True), start=2):
        size = full.shape[axis]
        if isinstance(start, int) and start < 0:
            full = torch.cat([_bias_alone(full, bias, axis, -start), full], dim=axis)
            size, start = size - start, 0
        if isinstance(more, int) and more > 0:
            full = torch.cat([full, _bias_alone(full, bias, axis, more)], dim=axis)
            size, more = size + more, 0
        full = full.narrow(axis, start, size + more - start)
    return full


def _bias_alone(full: torch.Tensor, bias: torch.Tensor | None, axis: int, length: int) -> torch.Tensor:
    """What stands where no input reaches: ``length`` places along ``axis``."""
    shape = list(full.shape)
    shape[axis] = length
    zeros = full.new_zeros(shape)
    return zeros if bias is None else zeros + bias.reshape([1, -1, *[1] * (full.ndim - 2)])
