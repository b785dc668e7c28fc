"""Sorting, selecting and masking."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.gather import non_negative
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue


def _top_k(call: Call, x: torch.Tensor, count: Any) -> tuple[torch.Tensor, torch.Tensor]:
    axis = call.int("axis", -1)
    largest, ordered = call.flag("largest", True), call.flag("sorted", True)
    # A stable sort gives the lower index first among equals, as ONNX wants; torch.topk does not.
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    del ordered
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@op("TopK", since=1)
def top_k_attribute(call: Call, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _top_k(call, x, call.int("k"))


@op("TopK", since=10, host=(1,))
def top_k(call: Call, x: torch.Tensor, k: HostValue) -> tuple[torch.Tensor, torch.Tensor]:
    return _top_k(call, x, k.number())


@op("Trilu", since=14, kinds={1: HOST})
def trilu(call: Call, x: torch.Tensor, k: HostValue | None = None) -> torch.Tensor:
    diagonal = 0 if k is None else k.number()
    return torch.triu(x, diagonal) if call.flag("upper", True) else torch.tril(x, diagonal)


@op("OneHot", since=9, kinds={1: HOST})
def one_hot(call: Call, indices: torch.Tensor, depth: HostValue, values: torch.Tensor) -> torch.Tensor:
    """``values`` is [off, on]; an index outside ``[-depth, depth)`` gives a row of off."""
    count = depth.number()
    count = int(count) if isinstance(count, float) else count
    axis = call.int("axis", -1) % (indices.ndim + 1)
    places = torch.arange(count, device=indices.device)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = count
    hit = non_negative(indices.to(torch.int64), count).unsqueeze(axis) == places.reshape(shape)
    off, on = values[0], values[1]
    return torch.where(hit, on, off)


@op("NonZero", since=9)
def non_zero(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The indices of entries that are not zero, [rank, found]; how many is known at run time only."""
    return torch.nonzero(x).transpose(0, 1)


@op("Unique", since=11)
def unique(call: Call, x: torch.Tensor) -> Any:
    """Distinct entries (or slices along ``axis``), where each is first, its number for each, and counts."""
    axis = call.int("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis % x.ndim
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    places = torch.arange(x.shape[axis], device=x.device)
    first = torch.full_like(counts, x.shape[axis]).scatter_reduce(0, inverse, places, "amin")
    if not call.flag("sorted", True):
        # torch sorts; ONNX then wants the order of first occurrence.
        order = torch.argsort(first)
        rank = torch.argsort(order)
        values, first = values.index_select(axis, order), first.index_select(0, order)
        counts, inverse = counts.index_select(0, order), rank.index_select(0, inverse)
    return values, first, inverse, counts
