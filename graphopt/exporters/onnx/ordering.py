"""Sorting, cumulative products and reductions without axes in ONNX; torch.onnx 2.13 has no form of these."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, ints, operators


def sort_stable(
    x: OnnxValue, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[OnnxValue, OnnxValue]:
    """TopK of all; among equals it gives the lower index first, so it is stable."""
    op = operators(18)
    if not len(x.shape):
        return op.Identity(x), op.Constant(value_int=0)
    axis = dim % len(x.shape)
    size = op.Shape(x, start=axis, end=axis + 1)
    values, indices = op.TopK(x, size, axis=axis, largest=int(descending), sorted=1)
    return values, indices


def argsort_stable(
    x: OnnxValue, *, stable: bool = True, dim: int = -1, descending: bool = False
) -> OnnxValue:
    return sort_stable(x, stable=stable, dim=dim, descending=descending)[1]


def kthvalue(x: OnnxValue, k: int, dim: int = -1, keepdim: bool = False) -> tuple[OnnxValue, OnnxValue]:
    """The last of the k smallest."""
    op = operators(18)
    if not len(x.shape):
        return op.Identity(x), op.Constant(value_int=0)
    values, indices = op.TopK(x, ints(k), axis=dim, largest=0, sorted=1)
    last = ints(k - 1) if keepdim else op.Constant(value_int=k - 1)
    return op.Gather(values, last, axis=dim), op.Gather(indices, last, axis=dim)


def cumprod(x: OnnxValue, dim: int, dtype: int | None = None) -> OnnxValue:
    """Products of 1, 2, 4, ... neighbours (Hillis and Steele 1986): opsets before 26 have no CumProd."""
    op = operators(18)
    shape = x.shape
    x = x if dtype is None else op.Cast(x, to=dtype)
    if not len(shape):
        return op.Identity(x)
    size, axis = shape[dim], ints(dim)
    if not isinstance(size, int):
        raise InputError("cumprod along a symbolic axis has no ONNX form", code="GO-3006")
    step = 1
    while step < size:
        head = op.Slice(x, ints(0), ints(step), axis)
        tail = op.Mul(
            op.Slice(x, ints(step), ints(size), axis), op.Slice(x, ints(0), ints(size - step), axis)
        )
        x, step = op.Concat(head, tail, axis=dim), 2 * step
    return op.Identity(x) if size <= 1 else x


def cumprod_node(x: OnnxValue, dim: int, dtype: int | None = None) -> OnnxValue:
    """One CumProd, from opset 26 on."""
    op = operators(26)
    rank = len(x.shape)
    x = x if dtype is None else op.Cast(x, to=dtype)
    return op.CumProd(x, op.Constant(value_int=dim)) if rank else op.Identity(x)


def amax(x: OnnxValue, dim: Sequence[int] = (), keepdim: bool = False) -> OnnxValue:
    """No axes are all axes."""
    return operators(18).ReduceMax(x, ints(*dim) if len(dim) else None, keepdims=int(keepdim))


def amin(x: OnnxValue, dim: Sequence[int] = (), keepdim: bool = False) -> OnnxValue:
    return operators(18).ReduceMin(x, ints(*dim) if len(dim) else None, keepdims=int(keepdim))


def mean_dim(
    x: OnnxValue, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: int | None = None
) -> OnnxValue:
    """None and no axes are all axes."""
    op = operators(18)
    x = x if dtype is None else op.Cast(x, to=dtype)
    return op.ReduceMean(x, ints(*dim) if dim else None, keepdims=int(keepdim))
