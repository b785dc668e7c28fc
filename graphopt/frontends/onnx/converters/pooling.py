"""Pooling, in one to three spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.padding import pad_spatial, same_pads, split_pads
from graphopt.frontends.onnx.registry import HOST, op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_INDICES = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class _Window:
    """Kernel, strides, dilations and pads of a pooling node on an input."""

    def __init__(self, call: Call, x: torch.Tensor) -> None:
        self.rank = x.ndim - 2
        if self.rank not in _MAX:
            raise call.error(f"has {self.rank} spatial dimensions; 1 to 3 are supported")
        self.kernel: list[int] = call.ints("kernel_shape")
        self.strides: list[int] = call.ints("strides", [1] * self.rank)
        self.dilations: list[int] = call.ints("dilations", [1] * self.rank)
        self.ceil = call.flag("ceil_mode")
        auto_pad = call.str("auto_pad", "NOTSET")
        self.begin: list[Any]
        self.end: list[Any]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            self.begin, self.end = same_pads(x.shape[2:], self.kernel, self.strides, self.dilations, auto_pad)
            self.ceil = False
        elif auto_pad == "VALID":
            self.begin, self.end = [0] * self.rank, [0] * self.rank
            self.ceil = False
        else:
            self.begin, self.end = split_pads(call.ints("pads"), self.rank)

    @property
    def fits_torch(self) -> bool:
        """torch pads both sides alike, and by no more than half of the kernel."""
        return all(
            isinstance(b, int) and b == e and 2 * b <= k
            for b, e, k in zip(self.begin, self.end, self.kernel, strict=True)
        )

    @property
    def padded(self) -> bool:
        return any(not isinstance(p, int) or p != 0 for p in (*self.begin, *self.end))


@op("MaxPool", since=1, ignores=("pads", "storage_order"))
def max_pool(call: Call, x: torch.Tensor) -> Any:
    """X [N, C, *size] -> [N, C, *size'], and on request the flat indices of the maxima."""
    window = _Window(call, x)
    dtype = x.dtype
    if not dtype.is_floating_point:
        if call.wants(1) and window.padded and not window.fits_torch:
            raise call.error("returns indices of integers under unequal pads")
        # Exact: the largest of some numbers, each of which float64 holds (8-bit types in practice).
        x = x.to(torch.float32 if dtype.itemsize < 4 else torch.float64)
    padding = window.begin
    source = x
    if not window.fits_torch:
        source = pad_spatial(x, window.begin, window.end, value=float("-inf"))
        padding = [0] * window.rank
    arguments = (window.kernel, window.strides, padding, window.dilations, window.ceil)
    if not call.wants(1):
        return _MAX[window.rank](source, *arguments).to(dtype)
    values, indices = _MAX_INDICES[window.rank](source, *arguments)
    if source is not x:
        indices = _unpadded(indices, source.shape[2:], x.shape[2:], window.begin)
    return values.to(dtype), _global_indices(indices, x, call.int("storage_order", 0))


def _unpadded(
    indices: torch.Tensor, padded: Sequence[Any], sizes: Sequence[Any], begin: Sequence[Any]
) -> torch.Tensor:
    """Flat indices into the padded plane as flat indices into the plane."""
    result: Any = 0
    weight: Any = 1
    rest = indices
    for axis in reversed(range(len(sizes))):
        position = rest % padded[axis] - begin[axis]
        rest = rest // padded[axis]
        result = result + position * weight
        weight = weight * sizes[axis]
    return result


def _global_indices(indices: torch.Tensor, x: torch.Tensor, column_major: int) -> torch.Tensor:
    """torch counts within each channel's plane, ONNX over the whole tensor."""
    plane: Any = 1
    for size in x.shape[2:]:
        plane = plane * size
    if column_major:
        indices = _column_major(indices, x.shape[2:])
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * plane
    return indices + planes.reshape([x.shape[0], x.shape[1], *[1] * (x.ndim - 2)])


def _column_major(indices: torch.Tensor, sizes: Sequence[Any]) -> torch.Tensor:
    positions, rest = [], indices
    for size in reversed(sizes):
        positions.append(rest % size)
        rest = rest // size
    result: Any = 0
    weight: Any = 1
    for position, size in zip(reversed(positions), sizes, strict=True):
        result = result + position * weight
        weight = weight * size
    return result


@op("AveragePool", since=1, ignores=("pads",))
def average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    """X [N, C, *size] -> [N, C, *size']."""
    window = _Window(call, x)
    include = call.flag("count_include_pad")
    plain = all(d == 1 for d in window.dilations)
    if plain and window.fits_torch:
        return _AVERAGE[window.rank](x, window.kernel, window.strides, window.begin, window.ceil, include)
    return _average_by_counting(x, window, include)


def _average_by_counting(x: torch.Tensor, window: _Window, include: bool) -> torch.Tensor:
    """Sum over each window divided by how many of its elements count."""
    ones = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype, device=x.device)
    total = _window_sum(pad_spatial(x, window.begin, window.end), window)
    counted = pad_spatial(ones, window.begin, window.end, value=1.0 if include else 0.0)
    return total / _window_sum(counted, window)


def _window_sum(x: torch.Tensor, window: _Window) -> torch.Tensor:
    """Sums of windows; what ``ceil_mode`` reaches beyond the padded input adds nothing."""
    beyond = []
    for axis in range(window.rank):
        size, stride = x.shape[2 + axis], window.strides[axis]
        reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1
        if not window.ceil:
            beyond.append(0)
            continue
        count = (size - reach + stride - 1) // stride + 1
        # A window must begin inside the input or its leading pad.
        if isinstance(size, int) and (count - 1) * stride >= size - window.end[axis]:
            count -= 1
        needed = (count - 1) * stride + reach - size
        beyond.append(max(needed, 0) if isinstance(needed, int) else torch.sym_max(needed, 0))
    if any(not isinstance(b, int) or b for b in beyond):
        x = pad_spatial(x, [0] * window.rank, beyond)
    channels = x.shape[1]
    kernel = torch.ones([channels, 1, *window.kernel], dtype=x.dtype, device=x.device)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[window.rank]
    return convolve(x, kernel, None, window.strides, 0, window.dilations, channels)


@op("LpPool", since=1, ignores=("pads",))
def lp_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    window = _Window(call, x)
    p = call.int("p", 2)
    powers = pad_spatial(x.abs() ** p, window.begin, window.end)
    return _window_sum(powers, window) ** (1.0 / p)


@op("GlobalAveragePool")
def global_average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    rank = x.ndim - 2
    if rank in _ADAPTIVE:
        size: Any = 1 if rank == 1 else [1] * rank
        return _ADAPTIVE[rank](x, size)
    return x.mean(dim=list(range(2, x.ndim)), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    return x.amax(dim=list(range(2, x.ndim)), keepdim=True)


@op("GlobalLpPool")
def global_lp_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
    p = call.int("p", 2)
    return (x.abs() ** p).sum(dim=list(range(2, x.ndim)), keepdim=True) ** (1.0 / p)


@op("MaxUnpool", since=9, kinds={2: HOST})
def max_unpool(call: Call, x: torch.Tensor, indices: torch.Tensor, shape: Any = None) -> torch.Tensor:
    """Scatters the values of X to the flat positions that ``indices`` gives; zeros elsewhere."""
    kernel, rank = call.ints("kernel_shape"), x.ndim - 2
    strides = call.ints("strides", [1] * rank)
    begin, end = split_pads(call.ints("pads"), rank)
    inferred = [
        (n - 1) * s - b - e + k
        for n, s, b, e, k in zip(x.shape[2:], strides, begin, end, kernel, strict=True)
    ]
    natural = [x.shape[0], x.shape[1], *inferred]
    # Indices count in the tensor whose size the strides imply, also when a larger one is asked for.
    total: Any = 1
    for size in natural:
        total = total * size
    flat = torch.zeros([total], dtype=x.dtype, device=x.device)
    result = flat.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(natural)
    if shape is None:
        return result
    wanted = shape.numbers()
    return pad_spatial(result, [0] * rank, [w - n for w, n in zip(wanted[2:], inferred, strict=True)])
