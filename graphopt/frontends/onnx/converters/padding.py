"""Padding rules that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


def split_pads(pads: Sequence[int] | None, rank: int) -> tuple[list[int], list[int]]:
    """ONNX's ``[begin..., end...]`` as two lists; absent pads are zeros."""
    if not pads:
        return [0] * rank, [0] * rank
    return list(pads[:rank]), list(pads[rank:])


def same_pads(
    sizes: Sequence[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
) -> tuple[list[Any], list[Any]]:
    """``SAME_UPPER`` and ``SAME_LOWER``: pads for which the output has ``ceil(size / stride)`` elements.

    Sizes may be symbolic, and then so are the pads, unless the stride is 1.
    """
    begin, end = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (k - 1) * dilation + 1
        if stride == 1:
            total: Any = reach - 1
        else:
            total = ((size + stride - 1) // stride - 1) * stride + reach - size
            total = max(total, 0) if isinstance(total, int) else torch.sym_max(total, 0)
        small = total // 2
        begin.append(small if auto_pad == "SAME_UPPER" else total - small)
        end.append(total - small if auto_pad == "SAME_UPPER" else small)
    return begin, end


def pad_spatial(
    x: torch.Tensor, begin: Sequence[Any], end: Sequence[Any], value: float = 0.0
) -> torch.Tensor:
    """Pads (or, with negative numbers, crops) the last axes with a constant."""
    widths: list[Any] = []
    for before, after in zip(reversed(begin), reversed(end), strict=True):
        widths += [before, after]
    return F.pad(x, widths, value=value)
