"""Convolutions in ONNX: of floats a Conv node, of integers ConvInteger, or slices and a matrix product.

torch.onnx 2.13 writes a stride of one number for a picture as an attribute of one number, and takes a
picture without a batch for one of another rank; Conv has no integer type.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import onnx_ir

from graphopt.exporters.onnx.integers import is_integer
from graphopt.exporters.onnx.nodes import OnnxValue, batched, expanded, ints, operators


def conv(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> OnnxValue:
    """``aten.conv1d`` to ``conv3d``: x [N, C, *size] or [C, *size], weight [M, C / groups, *kernel]."""
    rank = len(weight.shape) - 2
    strides, pads, dilations = (expanded(v, rank) for v in (stride, padding, dilation))

    def of_batch(x: OnnxValue) -> OnnxValue:
        if is_integer(x):
            attributes = {"strides": strides, "pads": [*pads, *pads], "dilations": dilations, "group": groups}
            y = _conv_integer(x, weight, attributes) or _by_slices(
                x, weight, strides, pads, dilations, groups
            )
            return (
                y
                if bias is None
                else operators(18).Add(y, operators(18).Reshape(bias, ints(-1, *[1] * rank)))
            )
        return operators(18).Conv(
            x, weight, bias, strides=strides, pads=[*pads, *pads], dilations=dilations, group=groups
        )

    return batched(of_batch, x, rank)


def conv_transpose(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> OnnxValue:
    """``aten.conv_transpose1d`` to ``3d``: x [N, C, *size] or [C, *size], weight [C, M / groups, *kernel]."""
    rank = len(weight.shape) - 2
    pads = expanded(padding, rank)

    def of_batch(x: OnnxValue) -> OnnxValue:
        return operators(18).ConvTranspose(
            x,
            weight,
            bias,
            strides=expanded(stride, rank),
            pads=[*pads, *pads],
            output_padding=expanded(output_padding, rank),
            group=groups,
            dilations=expanded(dilation, rank),
        )

    return batched(of_batch, x, rank)


def convolution(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> OnnxValue:
    """``aten.convolution``, which others decompose to."""
    if transposed:
        return conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(x, weight, bias, stride, padding, dilation, groups)


def _conv_integer(x: OnnxValue, weight: OnnxValue, attributes: dict[str, Any]) -> OnnxValue:
    """ConvInteger, if both operands are 8-bit tensors less one zero point each; else None."""
    left, right = _eight_bits(x), _eight_bits(weight)
    if left is None or right is None:
        return None
    (source, zero), (table, table_zero) = left, right
    return operators(18).ConvInteger(source, table, zero, table_zero, **attributes)


def _eight_bits(value: OnnxValue) -> tuple[OnnxValue, OnnxValue] | None:
    """The 8-bit tensor and zero point (or None) that int32 operands were made of."""
    node = value.producer()
    if value.dtype != onnx_ir.DataType.INT32 or node is None:
        return None
    if node.op_type != "Sub":
        source = _cast_from(value)
        return None if source is None else (source, None)
    source, zero = (_cast_from(operand) for operand in node.inputs)
    if source is None or zero is None or source.dtype != zero.dtype or len(zero.shape):
        return None
    return source, zero


def _cast_from(value: OnnxValue) -> OnnxValue:
    """The 8-bit tensor that a value is a conversion of, or None."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Cast" else None
    eight = (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)
    return source if source is not None and source.dtype in eight else None


def _by_slices(
    x: OnnxValue,
    weight: OnnxValue,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> OnnxValue:
    """One slice for each place in the kernel; all of them times the weight, in the integers' own type."""
    op = operators(18)
    rank, (rows, depth, *kernel) = len(strides), weight.shape
    if any(pads):
        x = op.Pad(x, ints(0, 0, *pads, 0, 0, *pads))
    axes = ints(*range(2, rank + 2))
    pieces = []
    for place in itertools.product(*map(range, kernel)):
        starts = [p * d for p, d in zip(place, dilations, strict=True)]
        # Counted from the end, where the size of the picture may vary.
        left = [(k - 1 - p) * d for k, p, d in zip(kernel, place, dilations, strict=True)]
        ends = [-n if n else 2**62 for n in left]
        pieces.append(op.Slice(x, ints(*starts), ints(*ends), axes, ints(*strides)))
    grouped = ints(0, groups, depth, -1)
    columns = [op.Reshape(piece, grouped) for piece in pieces]
    matrix = op.Concat(*columns, axis=2) if len(columns) > 1 else columns[0]
    places = math.prod(kernel)
    table = op.Reshape(weight, ints(groups, rows // groups, depth, places))
    table = op.Reshape(op.Transpose(table, perm=[0, 1, 3, 2]), ints(groups, rows // groups, places * depth))
    size = op.Shape(pieces[0], start=2)
    shape = op.Concat(op.Shape(x, start=0, end=1), ints(rows), size, axis=0)
    return op.Reshape(op.MatMul(table, matrix), shape)
