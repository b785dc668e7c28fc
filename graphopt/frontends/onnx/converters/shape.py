"""Operators that move elements without computing on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import VALUE, op
from graphopt.frontends.onnx.values import Constant, HostValue


@op("Shape", since=1, default=VALUE)
def shape_of(call: Call, x: torch.Tensor | HostValue | Constant) -> HostValue:
    """The sizes from axis ``start`` up to ``end``; symbolic where they are dynamic."""
    sizes = list(x.shape)
    start, end = call.int("start", 0), call.int("end", len(sizes))
    return HostValue.of(sizes[start:end], torch.int64)


@op("Size", since=1, default=VALUE)
def size_of(call: Call, x: torch.Tensor | HostValue | Constant) -> HostValue:
    total: Any = 1
    for size in x.shape:
        total = total * size
    return HostValue.of(total, torch.int64)


@op("Reshape", since=1)
def reshape_attribute(call: Call, x: torch.Tensor) -> torch.Tensor:
    return reshape_to(call, x, call.ints("shape"))


@op("Reshape", since=5, host=(1,))
def reshape(call: Call, x: torch.Tensor, shape: HostValue) -> torch.Tensor:
    return reshape_to(call, x, shape.numbers())


def reshape_to(call: Call, x: torch.Tensor, wanted: Sequence[Any]) -> torch.Tensor:
    """A 0 copies the input's size (unless ``allowzero``), a -1 is what is left."""
    call.check_rank(len(wanted))
    keep_zero = call.flag("allowzero")
    sizes = [
        x.shape[i] if isinstance(s, int) and s == 0 and not keep_zero else s for i, s in enumerate(wanted)
    ]
    return x.reshape(_with_minus_one(x, sizes))


def _with_minus_one(x: torch.Tensor, sizes: list[Any]) -> list[Any]:
    """Writes -1 for the only size that is symbolic and not a size of the input at the same axis.

    ``[-1]`` survives a change of shapes that an expression of sizes would not.
    """
    if any(isinstance(s, int) and s <= 0 for s in sizes):
        return sizes
    dynamic = [i for i, s in enumerate(sizes) if not isinstance(s, int)]
    if len(dynamic) != 1:
        return sizes
    return [-1 if i == dynamic[0] else s for i, s in enumerate(sizes)]


@op("Flatten")
def flatten(call: Call, x: torch.Tensor) -> torch.Tensor:
    axis = call.int("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    if axis == 0 or x.ndim == 0:
        return x.reshape(1, -1)
    # Not `Size.numel()`, which would fix dynamic sizes.
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("Transpose")
def transpose(call: Call, x: torch.Tensor) -> torch.Tensor:
    return x.permute(call.ints("perm", list(range(x.ndim))[::-1]))


def _squeeze(call: Call, x: torch.Tensor, axes: Sequence[int] | None) -> torch.Tensor:
    if axes is None:
        axes = [i for i, s in enumerate(x.shape) if isinstance(s, int) and s == 1]
    for axis in axes:
        size = x.shape[axis]
        if size != 1:
            raise call.size_error(f"squeezes axis {axis}", size, 1)
    return x.squeeze([a % x.ndim for a in axes]) if axes else x


@op("Squeeze", since=1)
def squeeze_attribute(call: Call, x: torch.Tensor) -> torch.Tensor:
    return _squeeze(call, x, call.ints("axes"))


@op("Squeeze", since=13, host=(1,))
def squeeze(call: Call, x: torch.Tensor, axes: HostValue | None = None) -> torch.Tensor:
    return _squeeze(call, x, None if axes is None else axes.numbers())


def _unsqueeze(call: Call, x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    rank = x.ndim + len(axes)
    call.check_rank(rank)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@op("Unsqueeze", since=1)
def unsqueeze_attribute(call: Call, x: torch.Tensor) -> torch.Tensor:
    return _unsqueeze(call, x, call.ints("axes"))


@op("Unsqueeze", since=13, host=(1,))
def unsqueeze(call: Call, x: torch.Tensor, axes: HostValue) -> torch.Tensor:
    return _unsqueeze(call, x, axes.numbers())


@op("Expand", since=8, host=(1,))
def expand(call: Call, x: torch.Tensor, shape: HostValue) -> torch.Tensor:
    """Broadcasts both ways: where the shape says 1, the input's size stays."""
    call.check_rank(shape.size)
    sizes = shape.numbers()
    rank = max(x.ndim, len(sizes))
    wanted = [1] * (rank - len(sizes)) + list(sizes)
    have = [1] * (rank - x.ndim) + list(x.shape)
    target = [h if isinstance(w, int) and w == 1 else w for h, w in zip(have, wanted, strict=True)]
    return x.expand(target)


@op("Concat", since=1, ignores=("axis",))
def concat(call: Call, *inputs: torch.Tensor) -> torch.Tensor:
    return inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=call.int("axis", 1))


def split_sizes(call: Call, x: torch.Tensor, sizes: Sequence[Any], axis: int) -> tuple[torch.Tensor, ...]:
    """Parts of the sizes given, which must make up the axis."""
    total = x.shape[axis]
    if total != sum(sizes):
        raise call.size_error(
            f"splits axis {axis} to parts of {', '.join(map(str, sizes))}", total, sum(sizes)
        )
    return torch.split(x, list(sizes), dim=axis)


def _split(call: Call, x: torch.Tensor, sizes: Sequence[Any] | None) -> tuple[torch.Tensor, ...]:
    axis = call.int("axis", 0)
    if sizes is not None:
        return split_sizes(call, x, sizes, axis)
    count = call.int("num_outputs", call.output_count)
    total = x.shape[axis]
    if isinstance(total, int) and count > total:
        raise call.error(f"makes {count} parts of an axis of {total} elements")
    part = (total + count - 1) // count
    if isinstance(total, int) and total % count:
        # The last part is smaller, and may be empty.
        parts = [max(0, min(part, total - i * part)) for i in range(count)]
        return torch.split(x, parts, dim=axis)
    return torch.split(x, part, dim=axis) if isinstance(total, int) else torch.chunk(x, count, dim=axis)


@op("Split", since=2)
def split_attribute(call: Call, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return _split(call, x, call.ints("split"))


@op("Split", since=13, host=(1,), ignores=("num_outputs",))
def split(call: Call, x: torch.Tensor, sizes: HostValue | None = None) -> tuple[torch.Tensor, ...]:
    return _split(call, x, None if sizes is None else sizes.numbers())


@op("Slice", since=1)
def slice_attributes(call: Call, x: torch.Tensor) -> torch.Tensor:
    return slice_axes(x, call.ints("starts"), call.ints("ends"), call.ints("axes"), None)


@op("Slice", since=10, host=(1, 2, 3, 4))
def slice_inputs(
    call: Call,
    x: torch.Tensor,
    starts: HostValue,
    ends: HostValue,
    axes: HostValue | None = None,
    steps: HostValue | None = None,
) -> torch.Tensor:
    return slice_axes(
        x,
        starts.numbers(),
        ends.numbers(),
        None if axes is None else axes.numbers(),
        None if steps is None else steps.numbers(),
    )


def slice_axes(
    x: torch.Tensor,
    starts: Sequence[Any],
    ends: Sequence[Any],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> torch.Tensor:
    """Slices axis by axis; a negative step flips what the opposite slice selects."""
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[i] if axes is not None else i) % x.ndim
        step = steps[i] if steps is not None else 1
        size = x.shape[axis]
        if step > 0:
            if not _is_everything(start, end, step, size):
                x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
            continue
        first = _clamp(start + size if _negative(start) else start, -1, size - 1)
        last = _clamp(end + size if _negative(end) else end, -1, size - 1)
        # Positions last+1 ... first, mirrored, are size-1-first ... size-2-last.
        x = x.flip(axis)
        x = torch.ops.aten.slice.Tensor(x, axis, size - 1 - first, size - 1 - last, -step)
    return x


def _is_everything(start: Any, end: Any, step: Any, size: Any) -> bool:
    if not (isinstance(start, int) and start == 0 and isinstance(step, int) and step == 1):
        return False
    return (
        bool(end >= 2**31 - 1) if isinstance(end, int) and end > 2**30 else statically_known_true(end == size)
    )


def _negative(value: Any) -> bool:
    return statically_known_true(value < 0) if not isinstance(value, int) else value < 0


def _clamp(value: Any, low: Any, high: Any) -> Any:
    if all(isinstance(v, int) for v in (value, low, high)):
        return max(low, min(value, high))
    if isinstance(value, int) and value < -(2**30):
        return low
    return torch.sym_max(torch.sym_min(value, high), low)


@op("Tile", since=6, host=(1,))
def tile(call: Call, x: torch.Tensor, repeats: HostValue) -> torch.Tensor:
    call.check_rank(repeats.size)
    return x.repeat(repeats.numbers())
