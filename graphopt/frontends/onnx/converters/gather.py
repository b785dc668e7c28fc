"""Gathering elements by index."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import INDEX, op


def non_negative(indices: torch.Tensor, size: Any) -> torch.Tensor:
    """ONNX counts negative indices from the end; torch's gathers do not."""
    return torch.where(indices < 0, indices + size, indices)


@op("Gather", kinds={1: INDEX})
def gather(call: Call, x: torch.Tensor, indices: torch.Tensor | int) -> torch.Tensor:
    """Takes whole slices; from the rows of a table this is an embedding."""
    axis = call.int("axis", 0) % x.ndim
    if not isinstance(indices, torch.Tensor):
        return x.select(axis, indices)
    index = indices.to(torch.int64)
    if axis == 0 and x.ndim == 2 and x.dtype.is_floating_point and index.ndim >= 1:
        return F.embedding(_table_index(index, x), x)
    if index.ndim == 0:
        return x.index_select(axis, non_negative(index, x.shape[axis]).reshape(1)).squeeze(axis)
    flat = x.index_select(axis, non_negative(index, x.shape[axis]).reshape(-1))
    return flat.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _table_index(index: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return non_negative(index, table.shape[0])


@op("GatherElements", since=11)
def gather_elements(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = call.int("axis", 0) % x.ndim
    return torch.gather(x, axis, non_negative(indices.to(torch.int64), x.shape[axis]))


@op("GatherND", since=11)
def gather_nd(call: Call, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Each row of ``indices`` addresses the axes after ``batch_dims``."""
    batch = call.int("batch_dims", 0)
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        raise call.error("has index rows of dynamic length")
    index = tuple(non_negative(indices[..., i].to(torch.int64), x.shape[batch + i]) for i in range(depth))
    places = []
    for axis in range(batch):
        shape = [1] * (indices.ndim - 1)
        shape[axis] = x.shape[axis]
        places.append(torch.arange(x.shape[axis], device=x.device).reshape(shape))
    return torch.ops.aten.index.Tensor(x, [*places, *index])


@op("Compress", since=9)
def compress(call: Call, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Keeps the slices for which ``condition`` [n] holds; without an axis, of X as one row.

    How many there are is known at run time only; a condition may be shorter than the axis.
    """
    axis = call.int("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x.index_select(axis % x.ndim, torch.nonzero(condition.reshape(-1)).squeeze(1))
