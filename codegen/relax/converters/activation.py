"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from tvm import tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, Unsupported, rank_of
from graphopt.codegen.relax.dtypes import FLOATS, NUMBERS
from graphopt.codegen.relax.elementwise import elementwise
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.scalars import Scalar

aten = torch.ops.aten


def _number(like: Scalar, value: float) -> Scalar:
    return s.constant(value, like.ty.dtype)


def _apply(context: Context, name: str, x: Expr, function: Callable[[Scalar], Scalar]) -> Expr:
    return elementwise(context, name, [x], function, compute=None)


def _clamped(v: Scalar, low: float, high: float) -> Scalar:
    """Clamp that keeps NaN."""
    v = tirx.Select(v < _number(v, low), _number(v, low), v)
    return tirx.Select(v > _number(v, high), _number(v, high), v)


@converter(aten.gelu.default, dtypes=FLOATS)
def gelu(context: Context, x: Expr, approximate: str) -> Expr:
    def exact(v: Scalar) -> Scalar:
        return v * s.normal_cdf(v)

    def by_tanh(v: Scalar) -> Scalar:
        inner = _number(v, math.sqrt(2 / math.pi)) * (v + _number(v, 0.044715) * v * v * v)
        return _number(v, 0.5) * v * (_number(v, 1) + s.tanh(inner))

    return _apply(context, f"gelu_{approximate}", x, by_tanh if approximate == "tanh" else exact)


@converter(aten.silu.default, dtypes=FLOATS)
def silu(context: Context, x: Expr) -> Expr:
    return _apply(context, "silu", x, lambda v: v / (_number(v, 1) + s.exp(-v)))


@converter(aten.mish.default, dtypes=FLOATS)
def mish(context: Context, x: Expr) -> Expr:
    return _apply(context, "mish", x, lambda v: v * s.tanh(_softplus(v, 1.0, 20.0)))


@converter(aten.softplus.default, dtypes=FLOATS)
def softplus(context: Context, x: Expr, beta: float, threshold: float) -> Expr:
    return _apply(context, "softplus", x, lambda v: _softplus(v, beta, threshold))


def _softplus(v: Scalar, beta: float, threshold: float) -> Scalar:
    scaled = v * _number(v, beta)
    soft = tirx.log1p(s.exp(scaled)) / _number(v, beta)
    return tirx.Select(scaled > _number(v, threshold), v, soft)


@converter(aten.log_sigmoid.default, dtypes=FLOATS)
def log_sigmoid(context: Context, x: Expr) -> Expr:
    def function(v: Scalar) -> Scalar:
        return tirx.Select(v < _number(v, 0), v, _number(v, 0)) - tirx.log1p(s.exp(-tirx.abs(v)))

    return _apply(context, "log_sigmoid", x, function)


@converter(aten.elu.default, dtypes=FLOATS)
def elu(context: Context, x: Expr, alpha: float, scale: float, input_scale: float) -> Expr:
    return _apply(context, "elu", x, lambda v: _elu(v, alpha, scale, input_scale))


def _elu(v: Scalar, alpha: float, scale: float, input_scale: float) -> Scalar:
    negative = s.expm1(v * _number(v, input_scale)) * _number(v, alpha * scale)
    return tirx.Select(v > _number(v, 0), v * _number(v, scale), negative)


@converter(aten.selu.default, dtypes=FLOATS)
def selu(context: Context, x: Expr) -> Expr:
    # Klambauer et al. 2017; TVM's relax.nn.selu leaves the scale out.
    return _apply(context, "selu", x, lambda v: _elu(v, 1.6732632423543772, 1.0507009873554805, 1.0))


@converter(aten.celu.default, dtypes=FLOATS)
def celu(context: Context, x: Expr, alpha: float) -> Expr:
    return _apply(context, "celu", x, lambda v: _elu(v, alpha, 1.0, 1.0 / alpha))


@converter(aten.leaky_relu.default, dtypes=FLOATS)
def leaky_relu(context: Context, x: Expr, slope: float) -> Expr:
    return _apply(
        context, "leaky_relu", x, lambda v: tirx.Select(v > _number(v, 0), v, v * _number(v, slope))
    )


@converter(aten.prelu.default, dtypes=FLOATS)
def prelu(context: Context, x: Expr, weight: Expr) -> Expr:
    rank, channels = rank_of(x), context.values[1].numel()
    if rank > 2 and channels != 1:
        shape = [1, channels, *([1] * (rank - 2))]
        weight = context.reshape(weight, shape)

    def function(v: Scalar, slope: Scalar) -> Scalar:
        return tirx.Select(v > _number(v, 0), v, v * slope)

    return elementwise(context, "prelu", [x, weight], function)


@converter(aten.hardtanh.default, dtypes=NUMBERS)
def hardtanh(context: Context, x: Expr, low: float, high: float) -> Expr:
    return _apply(context, "hardtanh", x, lambda v: _clamped(v, low, high))


@converter(aten.relu6.default, dtypes=NUMBERS)
def relu6(context: Context, x: Expr) -> Expr:
    return _apply(context, "relu6", x, lambda v: _clamped(v, 0, 6))


@converter(aten.hardsigmoid.default, dtypes=FLOATS)
def hardsigmoid(context: Context, x: Expr) -> Expr:
    return _apply(context, "hardsigmoid", x, _hardsigmoid)


def _hardsigmoid(v: Scalar) -> Scalar:
    return _clamped(v + _number(v, 3), 0, 6) / _number(v, 6)


@converter(aten.hardswish.default, dtypes=FLOATS)
def hardswish(context: Context, x: Expr) -> Expr:
    return _apply(context, "hardswish", x, lambda v: v * _clamped(v + _number(v, 3), 0, 6) / _number(v, 6))


@converter(aten.hardshrink.default, dtypes=FLOATS)
def hardshrink(context: Context, x: Expr, bound: float) -> Expr:
    def function(v: Scalar) -> Scalar:
        inside = tirx.And(v >= _number(v, -bound), v <= _number(v, bound))
        return tirx.Select(inside, _number(v, 0), v)

    return _apply(context, "hardshrink", x, function)


@converter(aten.softshrink.default, dtypes=FLOATS)
def softshrink(context: Context, x: Expr, bound: float) -> Expr:
    def function(v: Scalar) -> Scalar:
        above, below = v > _number(v, bound), v < _number(v, -bound)
        rest = tirx.Select(s.is_nan(v), v, _number(v, 0))
        return tirx.Select(above, v - _number(v, bound), tirx.Select(below, v + _number(v, bound), rest))

    return _apply(context, "softshrink", x, function)


@converter(aten.threshold.default, dtypes=NUMBERS)
def threshold(context: Context, x: Expr, bound: float, value: float) -> Expr:
    return _apply(
        context, "threshold", x, lambda v: tirx.Select(v <= _number(v, bound), _number(v, value), v)
    )


@converter(aten.rrelu.default, dtypes=FLOATS)
def rrelu(context: Context, x: Expr, lower: float, upper: float, training: bool, *_: Any) -> Expr:
    if training:
        raise Unsupported("rrelu in training mode")
    slope = (lower + upper) / 2
    return _apply(context, "rrelu", x, lambda v: tirx.Select(v >= _number(v, 0), v, v * _number(v, slope)))
