"""Distances between rows in ONNX; torch.onnx 2.13 has no form of these."""

from __future__ import annotations

import itertools
import math

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, ints, operators, scalar


def cdist(a: OnnxValue, b: OnnxValue, p: float, compute_mode: int | None = None) -> OnnxValue:
    """a [..., R, M], b [..., S, M] -> [..., R, S], by differences, which lose no digits of near rows."""
    op = operators(18)
    return _norm(op.Sub(op.Unsqueeze(a, ints(-2)), op.Unsqueeze(b, ints(-3))), a, p)


def pdist(x: OnnxValue, p: float = 2.0) -> OnnxValue:
    """x [N, M] -> the distances of all pairs, [N * (N - 1) / 2], in the order of their first rows."""
    op = operators(18)
    rows = x.shape[0]
    if not isinstance(rows, int):
        raise InputError("pdist of a symbolic number of rows has no ONNX form", code="GO-3006")
    pairs = list(itertools.combinations(range(rows), 2))
    if not pairs:
        return op.Slice(op.ReduceSum(x, ints(1), keepdims=0), ints(0), ints(0), ints(0))
    first, second = (op.Gather(x, ints(*side), axis=0) for side in zip(*pairs, strict=True))
    return _norm(op.Sub(first, second), x, p)


def _norm(difference: OnnxValue, like: OnnxValue, p: float) -> OnnxValue:
    """Over the last axis."""
    op = operators(18)
    size, axis = op.Abs(difference), ints(-1)
    if p == 0:
        apart = op.Not(op.Equal(size, scalar(0.0, like)))
        return op.ReduceSum(op.CastLike(apart, like), axis, keepdims=0)
    if p == 1:
        return op.ReduceSum(size, axis, keepdims=0)
    if p == 2:
        return op.Sqrt(op.ReduceSum(op.Mul(size, size), axis, keepdims=0))
    if math.isinf(p):
        return op.ReduceMax(size, axis, keepdims=0)
    powers = op.ReduceSum(op.Pow(size, scalar(p, like)), axis, keepdims=0)
    return op.Pow(powers, scalar(1.0 / p, like))
