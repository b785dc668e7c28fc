"""Images with their channels last: which values are kept so, and how operators take them.

Vectors run along channels, whose number is known, and not along a width that may be symbolic or odd;
a 1x1 convolution is a matrix product, and attention after a convolution needs no transposition.  The
program itself knows nothing of it: a value of shape ``[N, C, *plane]`` is held as ``[N, *plane, C]``
from the convolution that made it, through every operator listed here, until one asks for it plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from tvm import relax

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, Shape, normalize_axis, rank_of, shape_of
from graphopt.codegen.relax.converters.normalization import normalize_parts
from graphopt.codegen.relax.converters.pooling import average_window
from graphopt.codegen.relax.converters.reduction import count
from graphopt.codegen.relax.elementwise import is_tensor
from graphopt.codegen.relax.gemm import gemm, gemm_conv2d
from graphopt.codegen.relax.integers import centred_bytes, packed_factor
from graphopt.codegen.relax.narrow import half_dot, half_factor, narrow_conv2d
from graphopt.codegen.relax.packed import (
    depthwise_conv2d,
    divides,
    packed_conv2d,
    packed_matmul,
    packed_windows,
    window_sums,
)
from graphopt.codegen.relax.registry import Converter
from graphopt.codegen.relax.strassen import strassen_matmul, strassen_plan
from graphopt.codegen.relax.symbols import known
from graphopt.codegen.relax.weights import weight_of
from graphopt.codegen.relax.windows import window_conv2d
from graphopt.codegen.relax.winograd import winograd_conv2d, winograd_plan

aten = torch.ops.aten


@dataclass(frozen=True)
class ChannelsLast:
    """A value ``[N, C, *plane]`` of the program, held as ``[N, *plane, C]``."""

    stored: Expr


def to_last(axis: int, rank: int) -> int:
    """Where an axis of ``[N, C, *plane]`` stands in ``[N, *plane, C]``."""
    return axis if axis == 0 else rank - 1 if axis == 1 else axis - 1


def moved(shape: Sequence[Any]) -> Shape:
    """A shape with its channels (axis 1) moved to the end."""
    return [shape[0], *shape[2:], shape[1]]


def plain(context: Context, value: Any) -> Any:
    """The value as the program has it."""
    if not isinstance(value, ChannelsLast):
        return value
    *lead, channels = shape_of(value.stored)
    shape = [lead[0], channels, *lead[1:]]
    if all(known(size) == 1 for size in lead[1:]):
        return context.reshape(value.stored, shape)
    rank = len(shape)
    return context.emit(relax.op.permute_dims(value.stored, [0, rank - 1, *range(1, rank - 1)]))


def channels_last(context: Context, value: Any, rank: int) -> Expr:
    """A tensor with its channels last; one of lower rank is first given leading axes of size one."""
    if isinstance(value, ChannelsLast):
        return value.stored
    sizes = shape_of(value)
    if len(sizes) == 0:
        return value
    full = [1] * (rank - len(sizes)) + sizes
    if known(full[1]) == 1 or all(known(size) == 1 for size in full[2:]):
        return context.reshape(value, moved(full))
    value = context.reshape(value, full)
    return context.emit(relax.op.permute_dims(value, [0, *range(2, rank), 1]))


Rule = Callable[[Context, Converter, Sequence[Any]], Any]
"""``(context, plain converter, operands) -> ChannelsLast, plain result, or None``.

None means that the operands shall be made plain; tensors among the operands are Relax expressions or
:class:`ChannelsLast`.
"""


def convert(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """The node on operands with channels last, or None where the plain converter has to do it."""
    if (context.registers is None and context.gpu is None) or len(context.outputs) != 1:
        return None
    target: Any = context.node.target
    rule = _RULES.get(target)
    if rule is None and (target._schema.name in _POINTWISE or torch.Tag.pointwise in target.tags):
        rule = _pointwise
    return None if rule is None else rule(context, entry, operands)


def _in_last(context: Context) -> Context:
    """The context for a result with channels last."""
    other = context.retyped(moved(context.shape), context.dtype)
    other.channels_last = True
    return other


def _flat(operands: Sequence[Any]) -> list[Any]:
    return [v for o in operands for v in (o if isinstance(o, (list, tuple)) else [o])]


_POINTWISE = frozenset({
    "aten::hardswish", "aten::log_sigmoid", "aten::floor_divide", "aten::rsub", "aten::masked_fill",
    "aten::_to_copy", "aten::to", "aten::clone", "graphopt::hard_swish", "graphopt::hard_sigmoid",
    "graphopt::silu_mul", "graphopt::gelu_mul",
})  # fmt: skip
"""Elementwise operators that torch does not tag as such."""


# -- elementwise -----------------------------------------------------------------------------------


def _pointwise(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    rank = len(context.shape)
    if rank < 3 or not any(isinstance(o, ChannelsLast) for o in _flat(operands)):
        return None
    for operand in _flat(operands):
        if isinstance(operand, ChannelsLast) and rank_of(operand.stored) != rank:
            return None
    arranged = fx.node.map_aggregate(
        tuple(operands),
        lambda o: channels_last(context, o, rank) if isinstance(o, ChannelsLast) or is_tensor(o) else o,
    )
    return ChannelsLast(entry(_in_last(context), *arranged))


# -- convolutions ----------------------------------------------------------------------------------


def _conv2d(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, _, bias, stride, padding, dilation, groups = operands
    return _convolved(context, x, bias, stride, padding, dilation, groups)


def _convolution(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, _, bias, stride, padding, dilation, transposed, output_padding, groups = operands
    if transposed:
        return _conv_transpose(
            context, entry, (x, None, bias, stride, padding, output_padding, groups, dilation)
        )
    return _convolved(context, x, bias, stride, padding, dilation, groups)


def _conv_transpose(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """Where the windows do not overlap: a product for each pixel, whose results are the window's pixels."""
    x, _, bias, stride, padding, output_padding, groups, dilation = operands
    weight, offset = _weights(context, bias)
    if weight is None or weight.ndim != 4 or len(context.shape) != 4:
        return None
    if not _has_kernels(context) or (context.gpu is None and context.dtype != "float32"):
        return None
    steps, taps = _pair(stride), list(weight.shape[2:])
    if (
        groups != 1
        or steps != taps
        or any(_pair(padding) + _pair(output_padding))
        or _pair(dilation) != [1, 1]
    ):
        return None
    channels, outputs, (kh, kw) = weight.shape[0], weight.shape[1], taps
    if context.registers is not None and 2 * outputs >= context.registers.lanes:
        windows = packed_windows(context, channels_last(context, x, 4), weight, offset)
        return ChannelsLast(context.reshape(windows, moved(context.shape)))
    # Few channels fill no vector: those of all pixels of a window are computed together, then arranged.
    matrix = weight.permute(2, 3, 1, 0).reshape(kh * kw * outputs, channels)
    repeated = None if offset is None else offset.repeat(kh * kw)
    data = channels_last(context, x, 4)
    batch, height, width, _ = shape_of(data)
    inner = context.retyped([batch, height, width, kh * kw * outputs], context.dtype)
    if context.gpu is not None:
        offsets = None if repeated is None else context.constant(repeated)
        product = gemm(inner, data, context.constant(matrix), offsets, transposed=True)
    else:
        product = packed_matmul(inner, data, matrix, repeated)
    windows = context.reshape(product, [batch, height, width, kh, kw, outputs])
    rows = context.emit(relax.op.permute_dims(windows, [0, 1, 3, 2, 4, 5]))
    return ChannelsLast(context.reshape(rows, moved(context.shape)))


def _convolved(
    context: Context, x: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> ChannelsLast | None:
    weight, offset = _weights(context, bias)
    if weight is None or isinstance(padding, str):
        return None
    if not _has_kernels(context) or len(context.shape) != 4 or weight.ndim != 4:
        return None
    strides, pads, dilations = (_pair(v) for v in (stride, padding, dilation))
    outputs, inputs = weight.shape[:2]
    rest = (weight, offset, strides, [*pads, *pads], dilations, moved(context.shape))
    depthwise = groups == outputs and inputs == 1
    if context.gpu is None and context.dtype != "float32":
        return _narrow_convolved(context, x, groups, *rest)
    if context.gpu is not None:
        kernel = gemm_conv2d if groups == 1 and outputs >= 4 else window_conv2d if depthwise else None
        return None if kernel is None else ChannelsLast(kernel(context, channels_last(context, x, 4), *rest))
    if groups == 1 and outputs >= 4:
        if inputs < 4 and not isinstance(x, ChannelsLast):
            return ChannelsLast(packed_conv2d(context, x, *rest, planes=True))
        x = channels_last(context, x, 4)
        plan = winograd_plan(context, x, weight, strides, dilations, moved(context.shape))
        if plan is not None:
            padded = [*pads, *pads]
            return ChannelsLast(
                winograd_conv2d(context, x, weight, offset, padded, moved(context.shape), plan)
            )
        if list(weight.shape[2:]) == strides == [1, 1] and not any(pads):
            matrix = weight[:, :, 0, 0]
            halves = strassen_plan(context, x, matrix)
            if halves is not None:
                return ChannelsLast(strassen_matmul(context, x, matrix, offset, halves))
        return ChannelsLast(packed_conv2d(context, x, *rest))
    if depthwise and divides(outputs, context):
        return ChannelsLast(depthwise_conv2d(context, channels_last(context, x, 4), *rest))
    return None


def _narrow_convolved(
    context: Context, x: Any, groups: int, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any
) -> ChannelsLast | None:
    """A convolution of integers of 8 bits, or of halves, on a CPU."""
    outputs, inputs = weight.shape[:2]
    depthwise = groups == outputs and inputs == 1
    if not (groups == 1 and outputs >= 4 or depthwise and divides(outputs, context)):
        return None
    if context.dtype == "int32":
        centred = centred_bytes(context.node.args[0])
        packed = None if centred is None else packed_factor(context, centred, weight, padded=any(rest[1]))
        if centred is None or packed is None or context.held is None:
            return None
        x, zero = context.held(centred.node), centred.zero
        factor, weight = packed
    else:
        dot = half_dot(context)
        if dot is None:
            return None
        factor, zero, bias = half_factor(dot, context.dtype), 0, None if bias is None else bias.float()
    if depthwise and groups > 1:
        wide = factor.dot.total
        offset = s.constant(zero, wide)

        def centred_pixel(pixel: Any) -> Any:
            return s.cast(pixel, wide) - offset if zero else s.cast(pixel, wide)

        held = channels_last(context, x, 4)
        return ChannelsLast(depthwise_conv2d(context, held, weight, bias, *rest, read=centred_pixel))
    planes = inputs < 4 and not isinstance(x, ChannelsLast)
    data = x if planes else channels_last(context, x, 4)
    return ChannelsLast(narrow_conv2d(context, data, factor, weight, bias, *rest, planes=planes))


def _has_kernels(context: Context) -> bool:
    """Whether there are kernels for channels last, for the type that is computed in."""
    if context.gpu is not None:
        return context.dtype in ("float32", "float16", "bfloat16")
    return context.dtype in ("float32", "int32") or half_dot(context) is not None


def _weights(context: Context, bias: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Weight and bias of a convolution; no weight if one of them is not known while compiling."""
    node = context.node
    weight, offset = weight_of(node.args[1]), None
    if bias is not None:
        offset = weight_of(node.args[2] if len(node.args) > 2 else node.kwargs["bias"])
    return (weight, offset) if bias is None or offset is not None else (None, None)


def _pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(v) for v in (values * 2 if len(values) == 1 else values)]


# -- operators on planes ---------------------------------------------------------------------------


def _plane(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """Pooling and resizing: their converters ask the context where the plane is.

    With three axes they take ``[C, H, W]``, whose channels are not the ones held last.
    """
    x, *rest = operands
    if not isinstance(x, ChannelsLast) or rank_of(x.stored) != 4:
        return None
    return ChannelsLast(entry(_in_last(context), x.stored, *rest))


# Taps of a row are unrolled.
_TAPS_AT_ONCE = 7


def _average(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """Average pooling over small windows, as the sums of a depthwise convolution."""
    x, *arguments = operands
    window = average_window(2, *arguments)
    if (
        not isinstance(x, ChannelsLast)
        or context.registers is None
        or context.dtype != "float32"
        or rank_of(x.stored) != 4
        or max(window.sizes) > _TAPS_AT_ONCE
        or not divides(int(shape_of(x.stored)[-1]), context)
    ):
        return _plane(context, entry, operands)
    extents = shape_of(x.stored)[1:3]
    beyond = [pad + window.ceil_mode for pad in window.pads]

    def divide(total: Any, *place: Any) -> Any:
        return total * (s.constant(1, "float32") / s.cast(window.count(place, extents), "float32"))

    shape = moved(context.shape)
    return ChannelsLast(
        window_sums(context, x.stored, window.sizes, window.steps, [*window.pads, *beyond], shape, divide)
    )


def _group_norm(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """One group is all of a picture, in whatever order; several mix channels that lie apart."""
    x, groups, weight, bias, eps, _ = operands
    if not isinstance(x, ChannelsLast) or groups != 1 or context.lanes is None:
        return None
    batch, first, *rest = shape_of(x.stored)
    parts = context.reshape(x.stored, [batch, 1, first, count(rest, range(len(rest)))])
    axis = rank_of(x.stored) - 1
    return ChannelsLast(normalize_parts(context, x.stored, parts, weight, bias, eps, channel_axis=axis))


def _reduced(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, dims, keepdim, *rest = operands
    if not isinstance(x, ChannelsLast) or dims is None:
        return None
    rank = rank_of(x.stored)
    axes = {normalize_axis(int(d), rank) for d in (dims if isinstance(dims, (list, tuple)) else [dims])}
    where = [to_last(a, rank) for a in sorted(axes)]
    if keepdim:
        return ChannelsLast(entry(_in_last(context), x.stored, where, keepdim, *rest))
    # Only where the order of what remains is the same with channels last.
    return entry(context, x.stored, where, keepdim, *rest) if axes == set(range(2, rank)) else None


def _cat(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    tensors, axis = operands
    rank = len(context.shape)
    if not any(isinstance(t, ChannelsLast) for t in tensors) or any(
        rank_of(t.stored if isinstance(t, ChannelsLast) else t) != rank for t in tensors
    ):
        return None
    parts = [channels_last(context, t, rank) for t in tensors]
    return ChannelsLast(entry(_in_last(context), parts, to_last(normalize_axis(axis, rank), rank)))


def _pad(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, pads, *rest = operands
    if not isinstance(x, ChannelsLast):
        return None
    rank = rank_of(x.stored)
    full = [*pads, *[0] * (2 * rank - len(pads))]  # pairs, from the last axis
    pairs = [full[2 * (rank - 1 - axis) : 2 * (rank - axis)] for axis in range(rank)]
    ordered = [v for pair in reversed(moved(pairs)) for v in pair]
    return ChannelsLast(entry(_in_last(context), x.stored, ordered, *rest))


def _along_axis(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """Operators whose second operand is the axis they work along."""
    x, axis, *rest = operands
    if not isinstance(x, ChannelsLast):
        return None
    rank = rank_of(x.stored)
    return ChannelsLast(entry(_in_last(context), x.stored, to_last(normalize_axis(axis, rank), rank), *rest))


# -- rearrangements --------------------------------------------------------------------------------


def _permute(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, dims = operands
    rank = len(context.shape)
    order = [normalize_axis(int(d), rank) for d in dims]
    if isinstance(x, ChannelsLast):
        where = [to_last(d, rank) for d in order]
        if where == list(range(rank)):
            return x.stored
        return context.emit(relax.op.permute_dims(x.stored, where))
    # [N, *plane, C] -> [N, C, *plane]: what is there is the result with its channels last.
    return ChannelsLast(x) if rank > 2 and order == [0, rank - 1, *range(1, rank - 1)] else None


def _transpose(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    x, first, second = operands
    rank = len(context.shape)
    order = list(range(rank))
    a, b = normalize_axis(int(first), rank), normalize_axis(int(second), rank)
    order[a], order[b] = order[b], order[a]
    return _permute(context, entry, (x, order))


def _reshape(context: Context, entry: Converter, operands: Sequence[Any]) -> Any:
    """``[N, C, H, W] -> [N, C, H*W]`` and back keep the channels; other reshapes mix them."""
    x = operands[0]
    if not isinstance(x, ChannelsLast):
        return None
    before, after = shape_of(x.stored), moved(context.shape) if len(context.shape) > 2 else []
    if len(after) < 3:
        return None
    same = context.symbols.same
    if not (same(before[0], after[0]) and same(before[-1], after[-1])):
        return None
    return ChannelsLast(context.reshape(x.stored, after))


_RULES: dict[Any, Rule] = {
    aten.conv2d.default: _conv2d,
    aten.convolution.default: _convolution,
    aten.conv_transpose2d.input: _conv_transpose,
    aten.max_pool2d.default: _plane,
    aten.avg_pool2d.default: _average,
    aten.adaptive_avg_pool2d.default: _plane,
    aten._adaptive_avg_pool2d.default: _plane,
    aten.upsample_nearest2d.vec: _plane,
    aten.upsample_nearest2d.default: _plane,
    aten._upsample_nearest_exact2d.vec: _plane,
    aten._upsample_nearest_exact2d.default: _plane,
    aten.upsample_bilinear2d.vec: _plane,
    aten.upsample_bilinear2d.default: _plane,
    aten.constant_pad_nd.default: _pad,
    aten.slice.Tensor: _along_axis,
    aten.softmax.int: _along_axis,
    aten.group_norm.default: _group_norm,
    aten.mean.dim: _reduced,
    aten.sum.dim_IntList: _reduced,
    aten.amax.default: _reduced,
    aten.cat.default: _cat,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
}
