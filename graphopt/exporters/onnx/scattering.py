"""Scattering and copying in ONNX."""

from __future__ import annotations

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, ints, operators

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


def _reduction(reduce: str) -> str:
    if reduce not in _REDUCTIONS:
        raise InputError(f"scatter with reduce={reduce!r} has no ONNX form", code="GO-3006")
    return _REDUCTIONS[reduce]


def _scatter(
    x: OnnxValue, dim: int, index: OnnxValue, src: OnnxValue, reduction: str, fits: bool = False
) -> OnnxValue:
    op = operators(18)
    rank = len(x.shape)
    if not fits and list(src.shape) != list(index.shape):
        src = op.Slice(src, ints(*[0] * rank), op.Shape(index), ints(*range(rank)))
    return op.ScatterElements(x, index, src, axis=dim, reduction=reduction)


def copy(x: OnnxValue, src: OnnxValue, non_blocking: bool = False) -> OnnxValue:
    """``src`` in the shape and type of x."""
    op = operators(18)
    return op.Expand(op.CastLike(src, x), op.Shape(x))
