"""The Pad operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue


@op("Pad", since=1, ignores=("paddings",))
def pad_attributes(call: Call, x: torch.Tensor) -> torch.Tensor:
    pads = call.ints("pads") or call.ints("paddings")
    return pad_axes(call, x, pads, None, call.float("value", 0.0))


@op("Pad", since=11, kinds={1: HOST, 2: HOST, 3: HOST})
def pad(
    call: Call,
    x: torch.Tensor,
    pads: HostValue,
    value: HostValue | None = None,
    axes: HostValue | None = None,
) -> torch.Tensor:
    numbers = None if axes is None else axes.numbers()
    return pad_axes(call, x, pads.numbers(), numbers, 0 if value is None else value.number())


def pad_axes(
    call: Call, x: torch.Tensor, pads: Sequence[Any], axes: Sequence[int] | None, value: Any
) -> torch.Tensor:
    """Pads, or crops where a pad is negative."""
    axes = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
    begin, end = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    for axis in axes:
        kept = min(begin[axis], 0) + min(end[axis], 0) + x.shape[axis]
        if isinstance(kept, int) and kept < 0:
            raise call.error(f"crops more from axis {axis} than its {x.shape[axis]} elements")
    mode = call.str("mode", "constant")
    if mode == "constant":
        first = min(axes, default=x.ndim)
        widths = [w for a in range(x.ndim - 1, first - 1, -1) for w in (begin.get(a, 0), end.get(a, 0))]
        if x.dtype == torch.bool:
            return F.pad(x.to(torch.uint8), widths, value=int(value)).to(torch.bool)
        return F.pad(x, widths, value=value) if widths else x
    for axis in axes:
        x = _pad_by_index(call, x, axis, begin[axis], end[axis], mode)
    return x


def _pad_by_index(call: Call, x: torch.Tensor, axis: int, before: Any, after: Any, mode: str) -> torch.Tensor:
    """Pads one axis by choosing, for each new position, the element that it repeats."""
    size = x.shape[axis]
    if isinstance(before, int) and before == 0 and isinstance(after, int) and after == 0:
        return x
    position = torch.arange(-before, size + after, device=x.device)
    if mode == "edge":
        index = position.clamp(0, size - 1)
    elif mode == "wrap":
        index = position % size
    elif mode == "reflect":
        period = 2 * (size - 1) if not isinstance(size, int) else max(2 * (size - 1), 1)
        index = position % period
        index = torch.where(index < size, index, period - index)
    else:
        raise call.error(f"has the unknown mode {mode!r}")
    return x.index_select(axis, index)
