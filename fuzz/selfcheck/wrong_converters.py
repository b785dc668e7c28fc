"""Wrong converters: what code generation makes of single operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch

from graphopt.fuzz.selfcheck.variant import replaced, together, variant

aten = torch.ops.aten
Patch = AbstractContextManager[Any]


def _operand(target: Any, position: int, change: Callable[..., Any]) -> Patch:
    """One operand of an operator is changed before its converter sees it.

    Args:
        change: ``change(value, operands)``.
    """

    def altered(right: Callable[..., Any], context: Any, *operands: Any) -> Any:
        values = list(operands)
        values[position] = change(values[position], operands)
        return right(context, *values)

    return _converter(target, altered)


@contextmanager
def _converter(target: Any, wrong: Callable[..., Any]) -> Iterator[None]:
    """``wrong(right, context, *operands)`` in the place of the converter ``right(context, *operands)``."""
    from graphopt.codegen.relax import registry

    assert target in registry.converter_table()
    entry = registry._TABLE[target]

    def function(context: Any, *operands: Any) -> Any:
        return wrong(entry.function, context, *operands)

    registry._TABLE[target] = replace(entry, function=function)
    try:
        yield
    finally:
        registry._TABLE[target] = entry


@variant("aten.conv2d", "the bias is dropped", within=400, stage="compile", needs=("conv2d.default",))
def convolution_without_bias() -> Patch:
    return _operand(aten.conv2d.default, 2, lambda bias, _: None)


@variant("aten.conv2d", "the strides of the two axes are exchanged", within=1500, stage="compile",
         needs=("conv2d.default",))  # fmt: skip
def strides_swapped() -> Patch:
    return _operand(aten.conv2d.default, 3, lambda stride, _: list(stride)[::-1])


@variant("aten.conv2d", "the border is one pixel too wide on top and one too narrow below", within=600,
         stage="compile", needs=("conv2d.default", "conv1d.default"))  # fmt: skip
def padding_off_by_one() -> Patch:
    from graphopt.codegen.relax.converters import convolution

    right = convolution.convolve

    def convolve(context: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, *rest: Any) -> Any:
        half = len(padding) // 2
        if padding[0] > 0:
            padding = [padding[0] - 1, *padding[1:half], padding[half] + 1, *padding[half + 1 :]]
        return right(context, x, weight, bias, stride, padding, *rest)

    return replaced(convolution, "convolve", convolve)


@variant("aten.avg_pool2d", "the border counts in the mean although it must not, and the other way round",
         within=1500, stage="compile", needs=("avg_pool2d.default",))  # fmt: skip
def border_counted() -> Patch:
    return _operand(aten.avg_pool2d.default, 5, lambda counted, _: not counted)


@variant("aten.max_pool2d", "the border counts as zeros, not as nothing", within=4000, stage="compile",
         needs=("max_pool2d.default",))  # fmt: skip
def border_of_zeros() -> Patch:
    from graphopt.codegen.relax.converters import pooling

    return replaced(pooling, "MAX", _max_from_zero)


def _max_from_zero(value: Any, axis: Any) -> Any:
    """The border counts as zero, not as nothing."""
    from tvm import te, tirx

    reducer = te.comm_reducer(lambda x, y: tirx.max(x, y), lambda dtype: tirx.const(0, dtype), name="max")
    return reducer(value, axis=axis)


@variant("aten.softmax", "the axis is one too small", within=400, stage="compile", needs=("softmax",))
def softmax_along_another_axis() -> Patch:
    def change(axis: int, operands: Any) -> int:
        return axis - 1 if axis > 0 else axis

    return together(
        _operand(aten.softmax.int, 1, change),
        _operand(aten._softmax.default, 1, change),
    )


@variant("aten.layer_norm", "the epsilon is a hundred times too large", within=600, stage="compile",
         needs=("layer_norm",))  # fmt: skip
def epsilon_too_large() -> Patch:
    return _operand(aten.layer_norm.default, 4, lambda eps, _: 100 * eps)


@variant(
    "aten.batch_norm", "the epsilon is left out", within=800, stage="compile", needs=("batch_norm.default",)
)
def batch_norm_without_epsilon() -> Patch:
    return _operand(aten.batch_norm.default, 7, lambda eps, _: 0.0)


@variant("aten.scaled_dot_product_attention", "the scale is not applied", within=1500, stage="compile",
         needs=("scaled_dot_product_attention",))  # fmt: skip
def attention_unscaled() -> Patch:
    return _operand(aten.scaled_dot_product_attention.default, 6, lambda scale, _: 1.0)


@variant("aten.scaled_dot_product_attention", "the causal mask is forgotten", within=3000, stage="compile",
         needs=("scaled_dot_product_attention",))  # fmt: skip
def attention_not_causal() -> Patch:
    return _operand(aten.scaled_dot_product_attention.default, 5, lambda causal, _: False)


@variant("aten.select", "a negative index counts from one element too far", within=600, stage="compile",
         needs=("select.int",))  # fmt: skip
def negative_index() -> Patch:
    return _operand(aten.select.int, 2, lambda index, _: max(index, 0) if isinstance(index, int) else index)


@variant("aten.clamp", "the two bounds are exchanged", within=400, stage="compile", needs=("clamp.default",))
def bounds_swapped() -> Patch:
    def wrong(right: Any, context: Any, x: Any, low: Any, high: Any) -> Any:
        return right(context, x, high, low)

    return _converter(aten.clamp.default, wrong)


@variant("aten.leaky_relu", "the slope is always 0.01", within=1500, stage="compile", needs=("leaky_relu",))
def slope_forgotten() -> Patch:
    return _operand(aten.leaky_relu.default, 1, lambda slope, _: 0.01)


@variant("aten.gelu", "the tanh approximation and the exact function are exchanged", within=600,
         stage="compile", needs=("gelu",))  # fmt: skip
def gelu_of_the_other_kind() -> Patch:
    return _operand(aten.gelu.default, 1, lambda kind, _: "none" if kind == "tanh" else "tanh")


@variant(
    "aten.mean", "the mean divides by one element too few", within=400, stage="compile", needs=("mean.dim",)
)
def mean_of_one_too_few() -> Patch:
    from graphopt.codegen.relax.converters import reduction

    right = reduction.count
    return replaced(reduction, "count", lambda sizes, axes: right(sizes, axes) - (1 if len(axes) else 0))


@variant("aten.sum", "a reduced axis is kept where it has to go", within=400, stage="compile",
         needs=("sum.dim_IntList", "amax", "amin", "prod.dim"))  # fmt: skip
def axis_kept() -> Patch:
    return _operand(aten.sum.dim_IntList, 2, lambda keepdim, _: not keepdim)


@variant("aten.round", "halves are rounded up instead of to even", within=2500, stage="compile",
         needs=("round.default",))  # fmt: skip
def halves_rounded_up() -> Patch:
    from tvm import tirx

    from graphopt.codegen.relax.elementwise import elementwise

    def wrong(right: Any, context: Any, x: Any) -> Any:
        if not context.dtype.startswith("float"):
            return right(context, x)
        return elementwise(context, "round", [x], lambda v: tirx.floor(v + tirx.const(0.5, v.ty.dtype)))

    return _converter(aten.round.default, wrong)


@variant("aten.floor_divide", "quotients of integers are rounded towards zero", within=2500, stage="compile",
         needs=("floor_divide",))  # fmt: skip
def division_truncates() -> Patch:
    from graphopt.codegen.relax import scalars
    from graphopt.codegen.relax.elementwise import elementwise

    def wrong(right: Any, context: Any, a: Any, b: Any) -> Any:
        if not context.dtype.startswith("int"):
            return right(context, a, b)
        return elementwise(context, "floor_divide", [a, b], scalars.truncate_divide)

    return together(_converter(aten.floor_divide.default, wrong), _converter(aten.floor_divide.Scalar, wrong))


@variant("aten.where", "the two branches are exchanged", within=400, stage="compile", needs=("where.self",))
def branches_swapped() -> Patch:
    def wrong(right: Any, context: Any, condition: Any, a: Any, b: Any) -> Any:
        return right(context, condition, b, a)

    return _converter(aten.where.self, wrong)


@variant("aten.cat", "parts of equal shape are joined in reverse order", within=300, stage="compile",
         needs=("cat.default",))  # fmt: skip
def parts_in_reverse() -> Patch:
    from graphopt.codegen.relax.context import shape_of

    def change(parts: Any, _: Any) -> Any:
        same = len({str(list(shape_of(p))) for p in parts}) == 1
        return list(parts)[::-1] if same else parts

    return _operand(aten.cat.default, 0, change)


@variant("aten.pixel_shuffle", "rows and columns of a block of channels are exchanged", within=4000,
         stage="compile", needs=("pixel_shuffle",))  # fmt: skip
def pixels_transposed() -> Patch:
    from tvm import relax, tirx

    from graphopt.codegen.relax.context import shape_of

    def wrong(right: Any, context: Any, x: Any, factor: int) -> Any:
        *lead, channels, height, width = shape_of(x)
        rank = len(lead)
        parts = [*lead, tirx.floordiv(channels, factor * factor), factor, factor, height, width]
        order = [*range(rank), *(rank + i for i in (0, 3, 2, 4, 1))]
        x = context.emit(relax.op.permute_dims(context.reshape(x, parts), order))
        return context.reshape(x, context.shape)

    return _converter(aten.pixel_shuffle.default, wrong)
