"""Pooling in ONNX, in one to three spatial dimensions, with a batch or without.

torch.onnx 2.13 writes a stride of one number for a picture as an attribute of one number, drops
``divisor_override``, and reads sizes of adaptive pooling that vary from the example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir

from graphopt.errors import InputError
from graphopt.exporters.onnx.integers import is_integer
from graphopt.exporters.onnx.nodes import OnnxValue, batched, expanded, ints, is_double, operators


def _max_pool(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    rank: int,
) -> tuple[OnnxValue, OnnxValue]:
    op = operators(18)
    kernel, pads = expanded(kernel_size, rank), expanded(padding, rank)

    # float64 holds all integers up to 2^53.
    wide = op.Cast(x, to=onnx_ir.DataType.DOUBLE) if is_integer(x) else x
    one_picture = len(x.shape) == rank + 1
    y, places = op.MaxPool(
        op.Unsqueeze(wide, ints(0)) if one_picture else wide,
        kernel_shape=kernel,
        strides=expanded(stride, rank) if len(stride) else kernel,
        pads=[*pads, *pads],
        dilations=expanded(dilation, rank),
        ceil_mode=int(ceil_mode),
    )
    if one_picture:
        y, places = op.Squeeze(y, ints(0)), op.Squeeze(places, ints(0))
    if is_integer(x):
        y = op.Cast(y, to=x.dtype)
    # ONNX counts places through the whole tensor, torch in each channel.
    channel = op.ReduceProd(op.Shape(x, start=-rank), keepdims=0)
    return y, op.Mod(places, channel)


def max_pool2d(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> OnnxValue:
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 2)[0]


def max_pool2d_with_indices(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[OnnxValue, OnnxValue]:
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 2)


def max_pool3d(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> OnnxValue:
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 3)[0]


def max_pool3d_with_indices(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[OnnxValue, OnnxValue]:
    return _max_pool(x, kernel_size, stride, padding, dilation, ceil_mode, 3)


def _avg_pool(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
    rank: int,
) -> OnnxValue:
    op = operators(19)
    kernel, pads = expanded(kernel_size, rank), expanded(padding, rank)
    if divisor is not None and ceil_mode:
        raise InputError("avg_pool with ceil_mode and divisor_override has no ONNX form", code="GO-3006")

    def of_batch(x: OnnxValue) -> OnnxValue:
        return op.AveragePool(
            x,
            kernel_shape=kernel,
            strides=expanded(stride, rank) if len(stride) else kernel,
            pads=[*pads, *pads],
            ceil_mode=int(ceil_mode),
            count_include_pad=int(count_include_pad or divisor is not None),
        )

    y = batched(of_batch, x, rank)
    if divisor is None:
        return y
    return op.Mul(y, op.CastLike(op.Constant(value_float=math.prod(kernel) / divisor), x))


def avg_pool2d(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> OnnxValue:
    return _avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2)


def avg_pool3d(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> OnnxValue:
    return _avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 3)


def adaptive_avg_pool(x: OnnxValue, output_size: Sequence[int]) -> OnnxValue:
    """GlobalAveragePool or AveragePool; where windows differ in size, a mean of each, axis by axis."""
    op = operators(19)
    first = len(x.shape) - len(output_size)
    # onnxruntime has ReduceMean of float64, but neither of the two.
    pools = first == 2 and not is_double(x)
    if pools and all(isinstance(size, int) and size == 1 for size in output_size):
        return op.GlobalAveragePool(x)
    sizes = [(x.shape[first + i], wanted) for i, wanted in enumerate(output_size)]
    if pools and all(_divides(wanted, size) for size, wanted in sizes):
        kernel = [size // wanted for size, wanted in sizes]
        return op.AveragePool(x, kernel_shape=kernel, strides=kernel)
    for i, (size, wanted) in enumerate(sizes):
        x = _adaptive_along(x, first + i, size, wanted)
    return x


def _divides(part: object, whole: object) -> bool:
    return isinstance(part, int) and isinstance(whole, int) and whole % part == 0


def _adaptive_along(x: OnnxValue, axis: int, size: object, wanted: object) -> OnnxValue:
    op = operators(19)
    if isinstance(size, int) and size == wanted:
        return x
    if wanted == 1:
        return op.ReduceMean(x, ints(axis), keepdims=1)
    if not isinstance(size, int) or not isinstance(wanted, int):
        raise InputError("adaptive pooling between symbolic sizes has no ONNX form", code="GO-3006")
    means = []
    for j in range(wanted):
        start, end = j * size // wanted, -(-(j + 1) * size // wanted)
        window = op.Slice(x, ints(start), ints(end), ints(axis))
        means.append(op.ReduceMean(window, ints(axis), keepdims=1))
    return op.Concat(*means, axis=axis)
