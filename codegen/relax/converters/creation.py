"""Tensors made from sizes and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr
from graphopt.codegen.relax.dtypes import ALL, NUMBERS, is_float
from graphopt.codegen.relax.elementwise import elementwise, scalar
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import int64

aten = torch.ops.aten


def generate(context: Context, name: str, element: Callable[..., Any]) -> Expr:
    """Emits ``y[i] = element(i)``, cast to the node's dtype."""
    shape, dtype = context.shape, context.dtype

    def define() -> te.Tensor:
        return te.compute(shape, lambda *i: s.cast(element(*i), dtype), name=name)

    return context.kernel(name, [], define)


def filled(context: Context, value: Any) -> Expr:
    dtype = context.dtype
    return generate(context, "full", lambda *_: scalar(value, dtype))


@converter(aten.full.default, aten.full_like.default, aten.new_full.default)
def full(context: Context, _: Any, value: Any, *__: Any) -> Expr:
    # new_full has the size between: (self, size, fill_value).
    if context.node.target is aten.new_full.default:
        value = __[0]
    return filled(context, value)


@converter(aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default)
def zeros(context: Context, *_: Any) -> Expr:
    return filled(context, 0)


# torch leaves the contents of ``empty`` open: zeros are as good as any, and reproducible.
@converter(aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)
def empty(context: Context, *_: Any) -> Expr:
    return filled(context, 0)


@converter(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(context: Context, *_: Any) -> Expr:
    return filled(context, 1)


@converter(aten.scalar_tensor.default)
def scalar_tensor(context: Context, value: Any, *_: Any) -> Expr:
    return filled(context, value)


@converter(aten.fill.Scalar, aten.fill.Tensor)
def fill(context: Context, x: Expr, value: Any) -> Expr:
    return elementwise(context, "full", [value], lambda v: v, compute=context.dtype)


def _arange(context: Context, start: Any, step: Any) -> Expr:
    """start + i·step, computed in int64 or in double, as torch does."""
    whole = all(
        not isinstance(v, float) and (isinstance(v, int) or v.ty.dtype == "int64") for v in (start, step)
    )
    wide = "int64" if whole and not is_float(context.dtype) else "float64"
    return generate(context, "arange", lambda i: scalar(start, wide) + s.cast(i, wide) * scalar(step, wide))


@converter(aten.arange.default, dtypes=NUMBERS)
def arange(context: Context, end: Any, *_: Any) -> Expr:
    return _arange(context, 0, 1)


@converter(aten.arange.start, dtypes=NUMBERS)
def arange_from(context: Context, start: Any, end: Any, *_: Any) -> Expr:
    return _arange(context, start, 1)


@converter(aten.arange.start_step, dtypes=NUMBERS)
def arange_by(context: Context, start: Any, end: Any, step: Any, *_: Any) -> Expr:
    return _arange(context, start, step)


@converter(aten.linspace.default, dtypes=NUMBERS)
def linspace(context: Context, start: Any, end: Any, steps: Any, *_: Any) -> Expr:
    """Counted from both ends, so that the last element is ``end`` itself (RangeFactories.cpp)."""
    wide = "float64"

    def element(i: Any) -> Any:
        count = int64(steps)
        first, last = scalar(start, wide), scalar(end, wide)
        gaps = s.cast(tirx.max(count - 1, int64(1)), wide)
        step = (last - first) / gaps
        forward = first + step * s.cast(i, wide)
        backward = last - step * s.cast(count - 1 - i, wide)
        return tirx.Select(i < tirx.floordiv(count, 2), forward, tirx.Select(count < 2, first, backward))

    return generate(context, "linspace", element)


@converter(aten.eye.default, aten.eye.m)
def eye(context: Context, *_: Any) -> Expr:
    return generate(context, "eye", lambda i, j: tirx.Cast("int8", tirx.EQ(i, j)))


def _triangle(context: Context, x: Expr, name: str, keep: Callable[[Any, Any], Any]) -> Expr:
    shape, dtype = context.shape, context.dtype

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(
            shape, lambda *i: tirx.Select(keep(i[-2], i[-1]), data(*i), s.constant(0, dtype)), name=name
        )

    return context.kernel(name, [x], define)


@converter(aten.tril.default, dtypes=ALL)
def tril(context: Context, x: Expr, diagonal: Any) -> Expr:
    return _triangle(context, x, "tril", lambda row, column: column <= row + int64(diagonal))


@converter(aten.triu.default, dtypes=ALL)
def triu(context: Context, x: Expr, diagonal: Any) -> Expr:
    return _triangle(context, x, "triu", lambda row, column: column >= row + int64(diagonal))


@converter(aten.diag_embed.default, dtypes=ALL)
def diag_embed(context: Context, x: Expr, offset: int, dim1: int, dim2: int) -> Expr:
    rank = len(context.shape)
    a, b = dim1 % rank, dim2 % rank
    shape, dtype = context.shape, context.dtype

    def define(data: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            rest = [v for k, v in enumerate(i) if k not in (a, b)]
            on_diagonal = tirx.EQ(i[b] - i[a], int64(offset))
            place = i[a] + min(offset, 0)
            return tirx.if_then_else(on_diagonal, data(*rest, place), s.constant(0, dtype))

        return te.compute(shape, element, name="diag_embed")

    return context.kernel("diag_embed", [x], define)
