"""Indices and weights of one-dimensional resampling, as ONNX Resize defines them."""

from __future__ import annotations

import math
from typing import Any

import torch

from graphopt.frontends.onnx.values import is_symbolic


def coordinates(
    old: Any, new: Any, scale: Any, transform: str, roi: tuple[float, float] | None
) -> torch.Tensor:
    """Position in the old axis of each element of the new one, float64 [new].

    Raises:
        ValueError: the coordinate transformation is unknown.
    """
    position = torch.arange(new, dtype=torch.float64)
    single = not is_symbolic(new) and new == 1
    if transform == "half_pixel":
        return (position + 0.5) / scale - 0.5
    if transform == "pytorch_half_pixel":
        return torch.zeros_like(position) if single else (position + 0.5) / scale - 0.5
    if transform == "asymmetric":
        return position / scale
    if transform == "tf_half_pixel_for_nn":
        return (position + 0.5) / scale
    if transform == "align_corners":
        return torch.zeros_like(position) if single else position * ((old - 1) / (new - 1))
    if transform == "half_pixel_symmetric":
        adjustment = new / (scale * old)
        return old / 2 * (1 - adjustment) + (position + 0.5) / scale - 0.5
    if transform == "tf_crop_and_resize":
        start, end = roi if roi is not None else (0.0, 1.0)
        if single:
            return torch.full_like(position, 0.5 * (start + end) * (old - 1))
        return start * (old - 1) + position * ((end - start) * (old - 1) / (new - 1))
    raise ValueError(f"unknown coordinate transformation {transform!r}")


def nearest_index(
    old: Any, new: Any, scale: Any, transform: str, mode: str, roi: tuple[float, float] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the nearest old element, int64 [new], and which positions lie outside, bool [new].

    Raises:
        ValueError: the rounding mode is unknown.
    """
    position = coordinates(old, new, scale, transform, roi)
    if mode == "floor":
        index = torch.floor(position)
    elif mode == "ceil":
        index = torch.ceil(position)
    elif mode == "round_prefer_floor":
        index = torch.ceil(position - 0.5)
    elif mode == "round_prefer_ceil":
        index = torch.floor(position + 0.5)
    else:
        raise ValueError(f"unknown nearest mode {mode!r}")
    return index.to(torch.int64).clamp(0, old - 1), _outside(position, old)


def weights(
    old: Any,
    new: Any,
    scale: Any,
    transform: str,
    mode: str,
    *,
    cubic_a: float,
    antialias: bool,
    exclude_outside: bool,
    roi: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the old elements for each new one, float64 [new, old], and the positions outside.

    Elements beyond the border are those at the border, unless ``exclude_outside`` leaves them out.

    Raises:
        ValueError: the mode is neither linear nor cubic.
    """
    if mode not in ("linear", "cubic"):
        raise ValueError(f"unknown resize mode {mode!r}")
    position = coordinates(old, new, scale, transform, roi)
    shrink = min(float(scale), 1.0) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    margin = math.ceil(reach) + 1
    # Taps around the position; there are as many for every new element.
    offsets = torch.arange(-margin, margin + 1, dtype=torch.float64)
    taps = torch.floor(position).unsqueeze(1) + offsets.unsqueeze(0)
    distance = (taps - position.unsqueeze(1)) * shrink
    tap_weights = _triangle(distance) if mode == "linear" else _cubic(distance, cubic_a)
    if exclude_outside:
        inside = (taps >= 0) & (taps <= old - 1)
        tap_weights = torch.where(inside, tap_weights, torch.zeros_like(tap_weights))
    if exclude_outside or antialias:
        tap_weights = tap_weights / tap_weights.sum(dim=1, keepdim=True)
    index = taps.to(torch.int64).clamp(0, old - 1)
    matrix = torch.zeros([new, old], dtype=torch.float64).scatter_add(1, index, tap_weights)
    return matrix, _outside(position, old)


def resample(x: torch.Tensor, axis: int, matrix: torch.Tensor) -> torch.Tensor:
    """Applies weights [new, old] to one axis of a tensor."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.float32
    moved = x.to(dtype).movedim(axis, -1)
    result = torch.matmul(moved, matrix.to(dtype).t()).movedim(-1, axis)
    return result if x.dtype.is_floating_point else torch.trunc(result).to(x.dtype)


def _outside(position: torch.Tensor, old: Any) -> torch.Tensor:
    return (position < 0) | (position > old - 1)


def _triangle(distance: torch.Tensor) -> torch.Tensor:
    return torch.clamp(1 - distance.abs(), min=0.0)


def _cubic(distance: torch.Tensor, a: float) -> torch.Tensor:
    """Keys, Cubic convolution interpolation for digital image processing, 1981, equation 4."""
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
