"""Complex tensors, as the rotary embeddings of some models use them.

A complex tensor of shape S is a real tensor of shape ``[*S, 2]``; it may be an intermediate value or
a constant of a program, not an input or an output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax.context import Context, Expr, normalize_axis, rank_of
from graphopt.codegen.relax.converters.shape import permute_axes
from graphopt.codegen.relax.elementwise import is_tensor, load, scalar
from graphopt.codegen.relax.registry import complex_converter

aten = torch.ops.aten


def _pairs(context: Context, name: str, operands: list[Any], parts: Callable[..., tuple[Any, Any]]) -> Expr:
    """Emits an elementwise kernel; ``parts`` maps (real, imaginary) pairs to such a pair."""
    shape, dtype = context.shape, context.dtype
    tensors = [x for x in operands if is_tensor(x)]
    complex_operand = [
        isinstance(v, torch.Tensor) and v.is_complex() for v in context.values[: len(operands)]
    ]

    def define(*inputs: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            loads = iter(inputs)
            pairs = []
            for x, pair in zip(operands, complex_operand, strict=True):
                if not is_tensor(x):
                    pairs.append((scalar(x, dtype), scalar(0, dtype)))
                elif pair:
                    data = next(loads)
                    pairs.append((load(data, [*i[:-1], 0]), load(data, [*i[:-1], 1])))
                else:
                    pairs.append((load(next(loads), i[:-1]), scalar(0, dtype)))
            real, imaginary = parts(*pairs)
            return tirx.Select(tirx.EQ(i[-1], tirx.IntImm("int64", 0)), real, imaginary)

        return te.compute(shape, element, name=name)

    return context.kernel(name, tensors, define)


@complex_converter(aten.polar.default)
def polar(context: Context, magnitude: Expr, angle: Expr) -> Expr:
    def parts(r: tuple[Any, Any], a: tuple[Any, Any]) -> tuple[Any, Any]:
        return r[0] * tirx.cos(a[0]), r[0] * tirx.sin(a[0])

    return _pairs(context, "polar", [magnitude, angle], parts)


@complex_converter(aten.complex.default)
def complex_of(context: Context, real: Expr, imaginary: Expr) -> Expr:
    return _pairs(context, "complex", [real, imaginary], lambda a, b: (a[0], b[0]))


@complex_converter(aten.mul.Tensor, aten.mul.Scalar)
def mul(context: Context, a: Any, b: Any) -> Expr:
    def parts(x: tuple[Any, Any], y: tuple[Any, Any]) -> tuple[Any, Any]:
        return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]

    return _pairs(context, "complex_mul", [a, b], parts)


@complex_converter(
    aten.view_as_complex.default,
    aten.view_as_real.default,
    aten.view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.flatten.using_ints,
)
def reshape(context: Context, x: Expr, *_: Any) -> Expr:
    return context.reshape(x, context.shape)


@complex_converter(aten.transpose.int)
def transpose(context: Context, x: Expr, a: int, b: int) -> Expr:
    order = list(range(rank_of(x)))
    a, b = normalize_axis(a, len(order) - 1), normalize_axis(b, len(order) - 1)
    order[a], order[b] = order[b], order[a]
    return permute_axes(context, x, order)


@complex_converter(aten.clone.default, aten.contiguous.default, aten.alias.default, aten.detach.default)
def copy(context: Context, x: Expr, *_: Any) -> Expr:
    return x


@complex_converter(aten._to_copy.default, aten.to.dtype_layout, aten.to.dtype, aten.to.device)
def cast(context: Context, x: Expr, *_: Any) -> Expr:
    if not context.node.meta["val"].is_complex():
        return context.kernel(
            "real", [x], lambda data: te.compute(context.shape, lambda *i: data(*i, 0).astype(context.dtype))
        )
    return _pairs(context, "complex_copy", [x], lambda v: v)
