"""Translations of ATen operators that replace those of torch.onnx.

Each entry works around something observed with torch 2.13, onnxscript 0.7 and onnxruntime 1.31, and
says what.  The functions run while torch.onnx builds its graph: tensor arguments are ``onnx_ir``
values whose shapes are known (a size is an int or symbolic), others plain Python values, and calls of
``op`` emit nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from graphopt.errors import InputError
from graphopt.exporters.onnx.attention import attention_node, attention_nodes
from graphopt.exporters.onnx.nodes import OnnxValue, ints, is_one, operators, scalar

aten = torch.ops.aten


def translation_table(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """The ``custom_translation_table`` for :func:`torch.onnx.export`: these and the dialect's."""
    from graphopt.dialect.registry import onnx_translation_table

    attention = attention_node if opset >= 23 else attention_nodes
    return {
        aten.squeeze.default: squeeze_all,
        aten.squeeze.dim: squeeze_dim,
        aten.squeeze.dims: squeeze_dims,
        aten.unbind.int: unbind,
        aten.movedim.int: movedim,
        aten.to.dtype: to_dtype,
        aten.batch_norm.default: batch_norm,
        aten.conv_transpose2d.input: conv_transpose2d,
        aten.avg_pool2d.default: avg_pool2d,
        aten.adaptive_avg_pool1d.default: adaptive_avg_pool,
        aten.adaptive_avg_pool2d.default: adaptive_avg_pool,
        aten.upsample_linear1d.vec: upsample_linear1d,
        aten._int_mm.default: int_mm,
        aten.scaled_dot_product_attention.default: attention,
        **onnx_translation_table(opset),
    }


# -- squeeze -------------------------------------------------------------------------------------
# torch leaves an axis alone whose size is not 1; ONNX Squeeze rejects it at run time.  A symbolic size
# counts as not 1: so torch.export reasoned when it computed the shapes behind.


def squeeze_all(x: OnnxValue) -> OnnxValue:
    return _squeeze(x, range(len(x.shape)))


def squeeze_dim(x: OnnxValue, dim: int) -> OnnxValue:
    return _squeeze(x, [dim])


def squeeze_dims(x: OnnxValue, dim: Sequence[int]) -> OnnxValue:
    return _squeeze(x, dim)


def _squeeze(x: OnnxValue, axes: Sequence[int]) -> OnnxValue:
    op = operators(18)

    rank = len(x.shape)
    ones = sorted({axis % rank for axis in axes if is_one(x, axis)}) if rank else []
    return op.Squeeze(x, ints(*ones)) if ones else op.Identity(x)


# -- data movement -------------------------------------------------------------------------------


def unbind(x: OnnxValue, dim: int = 0) -> Sequence[OnnxValue]:
    """One Gather an element; torch.onnx writes Slice and Squeeze for each."""
    op = operators(18)

    count = x.shape[dim]
    if not isinstance(count, int):
        raise InputError(
            "unbind of a symbolic axis has no ONNX form: the number of outputs varies", code="GO-3006"
        )
    return [op.Gather(x, op.Constant(value_int=i), axis=dim) for i in range(count)]


def movedim(x: OnnxValue, source: int, destination: int) -> OnnxValue:
    op = operators(18)
    rank = len(x.shape)
    order = [axis for axis in range(rank) if axis != source % rank]
    order.insert(destination % rank, source % rank)
    return op.Transpose(x, perm=order)


def to_dtype(
    x: OnnxValue, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: int | None = None
) -> OnnxValue:
    op = operators(18)
    return op.Identity(x) if x.dtype == dtype else op.Cast(x, to=dtype)


# -- convolution, normalisation ------------------------------------------------------------------
# torch.onnx has translations of these only for what they decompose into; decomposing takes longer than
# all of the rest.


def batch_norm(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue,
    running_mean: OnnxValue,
    running_var: OnnxValue,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> OnnxValue:
    op = operators(15)
    if training or running_mean is None or running_var is None:
        raise InputError(
            "batch_norm that computes its statistics has no ONNX form",
            code="GO-3006",
            hint="put the model in eval mode",
        )
    weight = _filled(1.0, running_mean) if weight is None else weight
    bias = _filled(0.0, running_mean) if bias is None else bias
    return op.BatchNormalization(x, weight, bias, running_mean, running_var, epsilon=eps)


def _filled(number: float, like: OnnxValue) -> OnnxValue:
    return operators(18).Expand(scalar(number, like), ints(like.shape[0]))


def conv_transpose2d(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> OnnxValue:
    op = operators(18)
    pads = _pair(padding)
    return op.ConvTranspose(
        x,
        weight,
        bias,
        strides=_pair(stride),
        pads=[*pads, *pads],
        output_padding=_pair(output_padding),
        group=groups,
        dilations=_pair(dilation),
    )


# -- pooling, resizing ---------------------------------------------------------------------------


def avg_pool2d(
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> OnnxValue:
    """torch.onnx drops ``divisor_override``, which silently scales the result."""
    op = operators(19)

    kernel = _pair(kernel_size)
    pads = _pair(padding)
    if divisor_override is not None and ceil_mode:
        raise InputError("avg_pool2d with ceil_mode and divisor_override has no ONNX form", code="GO-3006")
    y = op.AveragePool(
        x,
        kernel_shape=kernel,
        strides=_pair(stride) if len(stride) else kernel,
        pads=[*pads, *pads],
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad or divisor_override is not None),
    )
    if divisor_override is None:
        return y
    return op.Mul(y, op.CastLike(op.Constant(value_float=math.prod(kernel) / divisor_override), x))


def adaptive_avg_pool(x: OnnxValue, output_size: Sequence[int]) -> OnnxValue:
    """GlobalAveragePool or AveragePool; where windows differ in size, a mean of each, axis by axis."""
    op = operators(19)
    if all(isinstance(size, int) and size == 1 for size in output_size):
        return op.GlobalAveragePool(x)
    first = len(x.shape) - len(output_size)
    sizes = [(x.shape[first + i], wanted) for i, wanted in enumerate(output_size)]
    if not all(isinstance(size, int) and isinstance(wanted, int) for size, wanted in sizes):
        raise InputError("adaptive pooling between symbolic sizes has no ONNX form", code="GO-3006")
    if first == 2 and all(size % wanted == 0 for size, wanted in sizes):
        kernel = [size // wanted for size, wanted in sizes]
        return op.AveragePool(x, kernel_shape=kernel, strides=kernel)
    for i, (size, wanted) in enumerate(sizes):
        axis = ints(first + i)
        means = []
        for j in range(wanted):
            start, end = j * size // wanted, -(-(j + 1) * size // wanted)
            window = op.Slice(x, ints(start), ints(end), axis)
            means.append(op.ReduceMean(window, axis, keepdims=1))
        x = op.Concat(*means, axis=first + i)
    return x


def _pair(sizes: Sequence[int]) -> list[int]:
    return [int(s) for s in sizes] if len(sizes) == 2 else [int(sizes[0])] * 2


def upsample_linear1d(
    x: OnnxValue,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float] | None = None,
) -> OnnxValue:
    """One Resize; torch.onnx decomposes it into eight gathers and multiplications."""
    op = operators(19)

    rule = "align_corners" if align_corners else "pytorch_half_pixel"
    if scale_factors is not None:
        scales = op.Constant(value_floats=[1.0, 1.0, *(float(s) for s in scale_factors)])
        return op.Resize(x, None, scales, None, mode="linear", coordinate_transformation_mode=rule)
    assert output_size is not None
    if all(isinstance(s, int) for s in output_size):
        spatial = ints(*output_size)
    else:
        spatial = op.Concat(*[op.Reshape(s, ints(1)) for s in output_size], axis=0)
    sizes = op.Concat(op.Shape(x, start=0, end=2), spatial, axis=0)
    return op.Resize(x, None, None, sizes, mode="linear", coordinate_transformation_mode=rule)


# -- integers ------------------------------------------------------------------------------------


def int_mm(a: OnnxValue, b: OnnxValue) -> OnnxValue:
    """``[M, K]`` int8 times ``[K, N]`` int8 in int32; torch.onnx has no translation."""
    op = operators(18)

    return op.MatMulInteger(a, b)
