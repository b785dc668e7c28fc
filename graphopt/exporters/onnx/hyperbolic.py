"""Hyperbolic functions in ONNX: nodes, but of float64, of which onnxruntime has no kernels.

The formulas keep the digits of small arguments by ``expm1`` and ``log1p`` (Higham, Accuracy and
Stability of Numerical Algorithms, §1.14).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from graphopt.exporters.onnx.nodes import OnnxValue, is_double, operators, scalar
from graphopt.exporters.onnx.pointwise import expm1, floating, log1p

aten = torch.ops.aten


def _sinh(x: OnnxValue) -> OnnxValue:
    """``(e + e / (e + 1)) / 2`` with ``e = expm1(|x|)``, which is infinite only where sinh nearly is."""
    op = operators(18)
    e = _of(expm1, op.Abs(x), x)
    half = scalar(0.5, x)
    size = op.Mul(half, op.Add(e, op.Div(e, op.Add(e, scalar(1.0, x)))))
    size = op.Where(op.IsInf(e), e, size)
    return op.Mul(op.Sign(x), size)


def _cosh(x: OnnxValue) -> OnnxValue:
    op = operators(18)
    return op.Mul(scalar(0.5, x), op.Add(op.Exp(x), op.Exp(op.Neg(x))))


def _asinh(x: OnnxValue) -> OnnxValue:
    """``log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))`` with the sign of x."""
    op = operators(18)
    one, squared, size = scalar(1.0, x), op.Mul(x, x), op.Abs(x)
    more = op.Div(squared, op.Add(one, op.Sqrt(op.Add(one, squared))))
    return op.Mul(op.Sign(x), _of(log1p, op.Add(size, more), x))


def _acosh(x: OnnxValue) -> OnnxValue:
    """``log1p(t + sqrt(2t + t^2))`` with ``t = x - 1``."""
    op = operators(18)
    t = op.Sub(x, scalar(1.0, x))
    root = op.Sqrt(op.Add(op.Add(t, t), op.Mul(t, t)))
    return _of(log1p, op.Add(t, root), x)


def _atanh(x: OnnxValue) -> OnnxValue:
    """``log1p(2x / (1 - x)) / 2``, of the size of x."""
    op = operators(18)
    size = op.Abs(x)
    quotient = op.Div(op.Add(size, size), op.Sub(scalar(1.0, x), size))
    return op.Mul(op.Sign(x), op.Mul(scalar(0.5, x), _of(log1p, quotient, x)))


def _of(function: Callable[[OnnxValue], OnnxValue], x: OnnxValue, like: OnnxValue) -> OnnxValue:
    """A translation of a value under construction, whose type it has to know."""
    x.dtype = like.dtype
    return function(x)


def _node_or(op_type: str, formula: Callable[[OnnxValue], OnnxValue]) -> Callable[[OnnxValue], OnnxValue]:
    def translation(x: OnnxValue) -> OnnxValue:
        return formula(x) if is_double(x) else getattr(operators(18), op_type)(floating(x))

    return translation


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    aten.sinh.default: _node_or("Sinh", _sinh),
    aten.cosh.default: _node_or("Cosh", _cosh),
    aten.asinh.default: _node_or("Asinh", _asinh),
    aten.acosh.default: _node_or("Acosh", _acosh),
    aten.atanh.default: _node_or("Atanh", _atanh),
}
