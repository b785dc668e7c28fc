"""Object detection: suppression of overlapping boxes, and pooling of regions."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue

MOST_SELECTED = 256
"""Boxes of a class that NonMaxSuppression can select: each is one unrolled step of the program."""


@op("NonMaxSuppression", since=10, kinds={2: HOST})
def non_max_suppression(
    call: Call,
    boxes: torch.Tensor,
    scores: torch.Tensor,
    most: HostValue | None = None,
    iou_threshold: torch.Tensor | None = None,
    score_threshold: torch.Tensor | None = None,
) -> torch.Tensor:
    """Boxes [B, N, 4], scores [B, C, N] -> [selected, 3]: batch, class and box of each.

    Each step takes the best box that is left and strikes those that overlap it.
    """
    limit = 0 if most is None else most.number()
    if not isinstance(limit, int):
        raise call.error("selects a number of boxes that depends on dynamic sizes")
    count = scores.shape[2]
    limit = min(limit, count) if isinstance(count, int) else limit
    if limit > MOST_SELECTED:
        raise call.error(
            f"selects up to {limit} boxes of a class; at most {MOST_SELECTED} steps are unrolled",
            hint="lower max_output_boxes_per_class, or cut the model before this node",
        )
    if limit <= 0:
        return torch.zeros([0, 3], dtype=torch.int64)
    # Sorted, so that the best box that is left is the first; among equals the lower index.
    order = torch.sort(scores, dim=2, descending=True, stable=True).indices
    corners = [c.unsqueeze(1).expand(order.shape).gather(2, order) for c in _corners(call, boxes)]
    alive = torch.ones_like(order, dtype=torch.bool)
    if score_threshold is not None:
        alive = scores.gather(2, order) > score_threshold.reshape(())
    threshold: Any = 0.0 if iou_threshold is None else iou_threshold.reshape(())
    places = torch.arange(count, device=boxes.device)
    chosen, valid = [], []
    for _ in range(limit):
        first = torch.argmax(alive.to(torch.uint8), dim=2, keepdim=True)
        chosen.append(first)
        valid.append(alive.gather(2, first))
        overlap = _overlaps([c.gather(2, first) for c in corners], corners, threshold)
        alive = alive & ~overlap & (places != first)
    box = order.gather(2, torch.cat(chosen, dim=2))
    found = torch.nonzero(torch.cat(valid, dim=2))
    flat = (found[:, 0] * box.shape[1] + found[:, 1]) * box.shape[2] + found[:, 2]
    selected = box.reshape(-1).index_select(0, flat)
    return torch.cat([found[:, :2], selected.unsqueeze(1)], dim=1)


def _corners(call: Call, boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Lower and upper y and x of each box, each [B, N]."""
    first, second, third, fourth = boxes.unbind(-1)
    if call.flag("center_point_box"):
        x, y, width, height = first, second, third / 2, fourth / 2
        return y - height, y + height, x - width, x + width
    # Any two opposite corners describe a box.
    return (
        torch.minimum(first, third),
        torch.maximum(first, third),
        torch.minimum(second, fourth),
        torch.maximum(second, fourth),
    )


def _overlaps(a: list[torch.Tensor], b: list[torch.Tensor], threshold: Any) -> torch.Tensor:
    """Whether intersection over union exceeds the threshold; never for boxes without area."""
    height = torch.minimum(a[1], b[1]) - torch.maximum(a[0], b[0])
    width = torch.minimum(a[3], b[3]) - torch.maximum(a[2], b[2])
    shared = height * width
    areas = [(c[3] - c[2]) * (c[1] - c[0]) for c in (a, b)]
    union = areas[0] + areas[1] - shared
    proper = (height > 0) & (width > 0) & (shared > 0) & (areas[0] > 0) & (areas[1] > 0) & (union > 0)
    return proper & (shared / union > threshold)


@op("RoiAlign", since=10)
def roi_align(call: Call, x: torch.Tensor, rois: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """X [N, C, H, W], rois [R, 4] as x1, y1, x2, y2, batch [R] -> [R, C, output_height, output_width].

    ``https://arxiv.org/abs/1703.06870``; before opset 16 coordinates have no half-pixel offset.
    """
    default = "output_half_pixel" if call.opset < 16 else "half_pixel"
    aligned = call.str("coordinate_transformation_mode", default) == "half_pixel"
    samples = call.int("sampling_ratio", 0)
    if samples <= 0:
        raise call.error(
            "samples each region as densely as its size asks (sampling_ratio=0), which is a different "
            "amount of work for each",
            hint="export with a fixed sampling_ratio",
        )
    scaled = rois * call.float("spatial_scale", 1.0) - (0.5 if aligned else 0.0)
    axes = []
    for axis, (bins, size) in enumerate(
        ((call.int("output_height", 1), x.shape[2]), (call.int("output_width", 1), x.shape[3]))
    ):
        start, end = scaled[:, 1 - axis], scaled[:, 3 - axis]
        extent = end - start
        # Regions without area count as one pixel, unless corners are pixel centres.
        extent = extent if aligned else extent.clamp(min=1.0)
        axes.append(_samples(start, extent, bins, samples, size))
    (y, y_weights), (x_, x_weights) = axes
    # The channels last: one index picks all of them.
    pixels = x.permute(0, 2, 3, 1)
    image = batch.to(torch.int64).reshape(-1, 1, 1)
    corners = []
    for i in range(2):
        for j in range(2):
            index = [image, y[i].unsqueeze(2), x_[j].unsqueeze(1)]
            weight = y_weights[i].unsqueeze(2) * x_weights[j].unsqueeze(1)
            corners.append(torch.ops.aten.index.Tensor(pixels, index) * weight.unsqueeze(-1))
    mode = call.str("mode", "avg")
    if mode not in ("avg", "max"):
        raise call.error(f"has the mode {mode!r}; avg and max are defined")
    if mode == "max":
        # The standard takes the largest weighted corner, not the largest interpolated value.
        sampled = torch.stack(corners).amax(0)
    else:
        sampled = corners[0] + corners[1] + corners[2] + corners[3]
    height, width = call.int("output_height", 1), call.int("output_width", 1)
    grid = sampled.reshape(rois.shape[0], height, samples, width, samples, x.shape[1])
    pooled = grid.amax((2, 4)) if mode == "max" else grid.mean((2, 4))
    return pooled.permute(0, 3, 1, 2)


def _samples(
    start: torch.Tensor, extent: torch.Tensor, bins: int, samples: int, size: Any
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The two neighbours of each sample on one axis, and their weights: [R, bins*samples] each."""
    places = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / samples
    position = start.unsqueeze(1) + places * (extent / bins).unsqueeze(1)
    inside = (position >= -1.0) & (position <= size)
    position = position.clamp(min=0.0)
    low = torch.clamp(position.to(torch.int64), max=size - 1)
    high = torch.clamp(low + 1, max=size - 1)
    # Beyond the last pixel its value continues.
    part = torch.where(low == high, torch.zeros_like(position), position - low)
    weights = [torch.where(inside, w, torch.zeros_like(w)) for w in (1 - part, part)]
    # Samples outside have weight zero; their index must only exist.
    zero = torch.zeros_like(low)
    return [torch.where(inside, low, zero), torch.where(inside, high, zero)], weights
