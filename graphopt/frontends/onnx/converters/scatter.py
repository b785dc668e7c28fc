"""Scattering elements by index."""

from __future__ import annotations

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.gather import non_negative
from graphopt.frontends.onnx.registry import op

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(
    call: Call, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    axis = call.int("axis", 0) % x.ndim
    index = non_negative(indices.to(torch.int64), x.shape[axis])
    reduction = call.str("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, axis, index, updates)
    return torch.scatter_reduce(x, axis, index, updates, _REDUCE[reduction], include_self=True)


op("ScatterElements", since=11)(_scatter_elements)
op("Scatter", since=9)(_scatter_elements)


@op("ScatterND", since=11)
def scatter_nd(call: Call, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    """Each row of ``indices`` addresses the leading axes of X."""
    depth = indices.shape[-1]
    if not isinstance(depth, int):
        raise call.error("has index rows of dynamic length")
    reduction = call.str("reduction", "none")
    index = tuple(non_negative(indices[..., i].to(torch.int64), x.shape[i]) for i in range(depth))
    if reduction in ("none", "add"):
        return torch.ops.aten.index_put.default(x, list(index), updates, reduction == "add")
    # Rows of X by their flat position, reduced row by row.
    position: torch.Tensor | int = 0
    for i, place in enumerate(index):
        position = position * x.shape[i] + place
    assert isinstance(position, torch.Tensor)
    rows = x.reshape(x.shape[:depth].numel(), -1)
    values = updates.reshape(-1, rows.shape[1])
    spread = position.reshape(-1, 1).expand(values.shape)
    reduced = torch.scatter_reduce(rows, 0, spread, values, _REDUCE[reduction], include_self=True)
    return reduced.reshape(x.shape)


@op("TensorScatter", since=24)
def tensor_scatter(
    call: Call, past: torch.Tensor, update: torch.Tensor, start: torch.Tensor | None = None
) -> torch.Tensor:
    """Writes ``update`` into a KV cache from ``start[batch]`` on along ``axis``."""
    axis = call.int("axis", -2) % past.ndim
    length = update.shape[axis]
    position = torch.arange(length, device=past.device)
    shape = [1] * past.ndim
    shape[axis] = length
    position = position.reshape(shape)
    if start is not None:
        position = position + start.reshape([-1, *[1] * (past.ndim - 1)])
    if call.str("mode", "linear") == "circular":
        position = position % past.shape[axis]
    return past.scatter(axis, position.expand(update.shape), update)
