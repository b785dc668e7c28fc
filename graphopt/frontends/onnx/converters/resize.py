"""Resize and Upsample.

Where torch's ``interpolate`` computes exactly what ONNX specifies, it is used.  Every other mode takes the
explicit form: per axis, an index (nearest) or a matrix of weights (linear, cubic, antialiased).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.resampling import nearest_index, resample, weights
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue, is_symbolic

_INTERPOLATE = {
    ("linear", 3): "linear",
    ("linear", 4): "bilinear",
    ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}


_OF_SOME_MODES = (
    "antialias",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "keep_aspect_ratio_policy",
    "mode",
    "nearest_mode",
)


@dataclass(frozen=True)
class AxisResize:
    """How one axis changes.

    Attributes:
        axis: of the tensor.
        size: new size.
        scale: new size over old, as coordinates are transformed with it; None when it is exactly
            ``size / old size``.
        roi: start and end of the region of interest, for ``tf_crop_and_resize``.
    """

    axis: int
    size: Any
    scale: Any
    roi: tuple[float, float] | None


@op("Upsample", since=7, ignores=("mode",))
def upsample_attribute(call: Call, x: torch.Tensor) -> torch.Tensor:
    return _resize(call, x, _by_scales(x, call.floats("scales"), None, None), "asymmetric", "floor")


@op("Upsample", since=9, host=(1,), ignores=("mode",))
def upsample(call: Call, x: torch.Tensor, scales: HostValue) -> torch.Tensor:
    return _resize(call, x, _by_scales(x, scales.numbers(), None, None), "asymmetric", "floor")


@op("Resize", since=10, host=(1,), ignores=("mode",))
def resize_10(call: Call, x: torch.Tensor, scales: HostValue) -> torch.Tensor:
    """Version 10 knows one coordinate transformation."""
    return _resize(call, x, _by_scales(x, scales.numbers(), None, None), "asymmetric", "floor")


@op("Resize", since=11, kinds={1: HOST, 2: HOST, 3: HOST}, ignores=_OF_SOME_MODES)
def resize(
    call: Call,
    x: torch.Tensor,
    roi: HostValue | None = None,
    scales: HostValue | None = None,
    sizes: HostValue | None = None,
) -> torch.Tensor:
    axes = call.ints("axes")
    axes = None if axes is None else [a % x.ndim for a in axes]
    region = roi.numbers() if roi is not None and roi.size else None
    if scales is not None and scales.size:
        changes = _by_scales(x, scales.numbers(), axes, region)
    elif sizes is not None and sizes.size:
        changes = _by_sizes(call, x, sizes.numbers(), axes, region)
    else:
        raise call.error("has neither scales nor sizes")
    transform = call.str("coordinate_transformation_mode", "half_pixel")
    return _resize(call, x, changes, transform, call.str("nearest_mode", "round_prefer_floor"))


def _region(region: list[Any] | None, index: int, count: int) -> tuple[float, float] | None:
    return None if region is None else (region[index], region[index + count])


def _by_scales(
    x: torch.Tensor, scales: list[Any], axes: list[int] | None, region: list[Any] | None
) -> list[AxisResize]:
    axes = axes if axes is not None else list(range(x.ndim))
    changes = []
    for i, (axis, scale) in enumerate(zip(axes, scales, strict=True)):
        old = x.shape[axis]
        # A scale on whole numbers keeps sizes free of floats.
        if not is_symbolic(scale) and float(scale).is_integer():
            size: Any = old * int(scale)
        elif isinstance(old, int) and not is_symbolic(scale):
            size = math.floor(old * scale)
        else:
            size = torch.sym_int(old * scale)
        exact = isinstance(old, int) and not is_symbolic(scale) and size == old * scale
        exact = exact or (not is_symbolic(scale) and float(scale).is_integer())
        changes.append(AxisResize(axis, size, None if exact else scale, _region(region, i, len(axes))))
    return changes


def _by_sizes(
    call: Call, x: torch.Tensor, sizes: list[Any], axes: list[int] | None, region: list[Any] | None
) -> list[AxisResize]:
    axes = axes if axes is not None else list(range(x.ndim))
    policy = call.str("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return [
            AxisResize(a, s, None, _region(region, i, len(axes)))
            for i, (a, s) in enumerate(zip(axes, sizes, strict=True))
        ]
    ratios = [s / x.shape[a] for a, s in zip(axes, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [
        AxisResize(a, math.floor(scale * x.shape[a] + 0.5), scale, _region(region, i, len(axes)))
        for i, a in enumerate(axes)
    ]


def _resize(
    call: Call, x: torch.Tensor, changes: list[AxisResize], transform: str, nearest: str
) -> torch.Tensor:
    mode = call.str("mode", "nearest")
    crops = transform == "tf_crop_and_resize"
    # A scale of 1.1 moves elements even where it leaves the size as it is.
    keeps = [c.scale is None and statically_known_true(c.size == x.shape[c.axis]) for c in changes]
    changes = [c for c, same in zip(changes, keeps, strict=True) if crops or not same]
    if not changes:
        return x
    fast = _interpolate(call, x, changes, mode, transform, nearest)
    if fast is not None:
        return fast
    for change in changes:
        x = _resize_axis(call, x, change, mode, transform, nearest)
    return x


def _interpolate(
    call: Call, x: torch.Tensor, changes: list[AxisResize], mode: str, transform: str, nearest: str
) -> torch.Tensor | None:
    """``F.interpolate`` where it is exact, else None."""
    by_axis = {c.axis: c for c in changes}
    spatial = range(2, x.ndim)
    special = call.flag("antialias") or call.flag("exclude_outside") or not x.dtype.is_floating_point
    if special or not 3 <= x.ndim <= 5 or any(a < 2 for a in by_axis):
        return None
    align = transform == "align_corners"
    if mode == "nearest":
        torch_mode = _nearest_mode(x, changes, transform, nearest)
    elif transform == "half_pixel" or align or (transform == "pytorch_half_pixel" and _above_one(changes)):
        torch_mode = _INTERPOLATE.get((mode, x.ndim))
        if mode == "cubic" and call.float("cubic_coeff_a", -0.75) != -0.75:
            return None
    else:
        return None
    if torch_mode is None:
        return None
    corners = align if mode != "nearest" else None
    if any(c.scale is not None for c in changes):
        scales = [_scale(by_axis.get(a), x) for a in spatial]
        if align or any(is_symbolic(s) for s in scales):
            return None
        return F.interpolate(x, scale_factor=scales, mode=torch_mode, align_corners=corners)
    size = [by_axis[a].size if a in by_axis else x.shape[a] for a in spatial]
    return F.interpolate(x, size=size, mode=torch_mode, align_corners=corners)


def _scale(change: AxisResize | None, x: torch.Tensor) -> Any:
    if change is None:
        return 1.0
    return change.scale if change.scale is not None else change.size / x.shape[change.axis]


def _above_one(changes: list[AxisResize]) -> bool:
    return all(statically_known_true(c.size > 1) for c in changes)


def _nearest_mode(x: torch.Tensor, changes: list[AxisResize], transform: str, nearest: str) -> str | None:
    """torch's name for a nearest mode.

    ``nearest`` takes ``floor(i * old/new)``; ``nearest-exact`` takes ``floor((i + 0.5) * old/new)``, which is
    half_pixel with halves rounded up.  Halves do not occur when an axis grows by a whole factor.  Given a
    scale, torch's kernels ignore it where the size doubles or stays, so it has to be exact.
    """
    if any(c.scale is not None for c in changes):
        return None
    if transform == "asymmetric" and nearest == "floor":
        return "nearest"
    if transform in ("half_pixel", "pytorch_half_pixel"):
        grows = all(statically_known_true(c.size % x.shape[c.axis] == 0) for c in changes)
        if nearest == "round_prefer_ceil" or (nearest == "round_prefer_floor" and grows):
            return "nearest-exact"
    return None


def _resize_axis(
    call: Call, x: torch.Tensor, change: AxisResize, mode: str, transform: str, nearest: str
) -> torch.Tensor:
    old = x.shape[change.axis]
    scale = change.scale if change.scale is not None else change.size / old
    if mode == "nearest":
        index, outside = nearest_index(old, change.size, scale, transform, nearest, change.roi)
        y = x.index_select(change.axis, index)
    else:
        matrix, outside = weights(
            old,
            change.size,
            scale,
            transform,
            mode,
            cubic_a=call.float("cubic_coeff_a", -0.75),
            antialias=call.flag("antialias"),
            exclude_outside=call.flag("exclude_outside"),
            roi=change.roi,
        )
        y = resample(x, change.axis, matrix)
    if transform != "tf_crop_and_resize":
        return y
    shape = [1] * x.ndim
    shape[change.axis] = change.size
    return torch.where(outside.reshape(shape), call.float("extrapolation_value", 0.0), y)
