"""Scattering and copying in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, ints, operators, scalar

_REDUCTIONS = {"add": "add", "multiply": "mul"}


def scatter_src(x: OnnxValue, dim: int, index: OnnxValue, src: OnnxValue) -> OnnxValue:
    """torch.onnx passes a source that is larger than the index, which ONNX has no room for."""
    return _scatter(x, dim, index, src, "none")


def scatter_reduce_src(x: OnnxValue, dim: int, index: OnnxValue, src: OnnxValue, *, reduce: str) -> OnnxValue:
    return _scatter(x, dim, index, src, _reduction(reduce))


def scatter_reduce_value(x: OnnxValue, dim: int, index: OnnxValue, value: float, *, reduce: str) -> OnnxValue:
    import numpy as np
    import onnx_ir

    op = operators(18)
    number = op.Constant(value=onnx_ir.tensor(np.array(value, dtype=x.dtype.numpy())))
    return _scatter(x, dim, index, op.Expand(number, op.Shape(index)), _reduction(reduce), fits=True)


def scatter_reduce(
    x: OnnxValue, dim: int, index: OnnxValue, src: OnnxValue, reduce: str, include_self: bool = True
) -> OnnxValue:
    """``scatter_reduce`` of torch; torch.onnx writes the mean as the largest.

    Without ``include_self`` what is written to first gets the number that changes nothing.
    """
    op = operators(18)
    if reduce not in _NEUTRAL:
        raise InputError(f"scatter_reduce with reduce={reduce!r} has no ONNX form", code="GO-3006")
    reduction, neutral = _NEUTRAL[reduce]
    src = _fitting(src, index)

    def scatter(to: OnnxValue, values: OnnxValue, reduction: str) -> OnnxValue:
        return op.ScatterElements(to, index, values, axis=dim, reduction=reduction)

    start = x if include_self else scatter(x, op.Expand(neutral(x), op.Shape(index)), "none")
    y = scatter(start, src, reduction)
    if reduce != "mean":
        return y
    one = scalar(1, x)
    counts = op.Expand(one if include_self else scalar(0, x), op.Shape(x))
    counts = op.Max(scatter(counts, op.Expand(one, op.Shape(index)), "add"), one)
    if x.dtype.is_floating_point():
        return op.Div(y, counts)
    return op.Div(op.Sub(y, op.Mod(y, counts)), counts)  # rounded down


def _lowest(x: OnnxValue) -> OnnxValue:
    import numpy as np

    dtype = x.dtype.numpy()
    return scalar(-math.inf if x.dtype.is_floating_point() else int(np.iinfo(dtype).min), x)


def _highest(x: OnnxValue) -> OnnxValue:
    import numpy as np

    dtype = x.dtype.numpy()
    return scalar(math.inf if x.dtype.is_floating_point() else int(np.iinfo(dtype).max), x)


_NEUTRAL: dict[str, tuple[str, Callable[[OnnxValue], OnnxValue]]] = {
    "sum": ("add", lambda x: scalar(0, x)),
    "mean": ("add", lambda x: scalar(0, x)),
    "prod": ("mul", lambda x: scalar(1, x)),
    "amax": ("max", _lowest),
    "amin": ("min", _highest),
}
"""ONNX's name of each reduction, and the number that changes nothing."""


def _reduction(reduce: str) -> str:
    if reduce not in _REDUCTIONS:
        raise InputError(f"scatter with reduce={reduce!r} has no ONNX form", code="GO-3006")
    return _REDUCTIONS[reduce]


def _scatter(
    x: OnnxValue, dim: int, index: OnnxValue, src: OnnxValue, reduction: str, fits: bool = False
) -> OnnxValue:
    op = operators(18)
    src = src if fits else _fitting(src, index)
    return op.ScatterElements(x, index, src, axis=dim, reduction=reduction)


def _fitting(src: OnnxValue, index: OnnxValue) -> OnnxValue:
    """The part of a source that is used: as much as there are indices."""
    if list(src.shape) == list(index.shape):
        return src
    op = operators(18)
    rank = len(index.shape)
    return op.Slice(src, ints(*[0] * rank), op.Shape(index), ints(*range(rank)))


def copy(x: OnnxValue, src: OnnxValue, non_blocking: bool = False) -> OnnxValue:
    """``src`` in the shape and type of x."""
    op = operators(18)
    return op.Expand(op.CastLike(src, x), op.Shape(x))
