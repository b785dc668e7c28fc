"""Translations of ATen operators that replace those of torch.onnx.

Each entry works around something observed with torch 2.13, onnxscript 0.7 and onnxruntime 1.31, and
says what.  The functions run while torch.onnx builds its graph: tensor arguments are ``onnx_ir``
values whose shapes are known (a size is an int or symbolic), others plain Python values, and calls of
``op`` emit nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from graphopt.errors import InputError
from graphopt.exporters.onnx import (
    bits,
    convolution,
    distances,
    division,
    gradients,
    hyperbolic,
    integers,
    ordering,
    pointwise,
    pooling,
    scattering,
)
from graphopt.exporters.onnx.attention import attention_node, attention_nodes
from graphopt.exporters.onnx.nodes import OnnxValue, ints, is_double, is_one, operators, scalar

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
        aten.reshape.default: reshape,
        aten.to.dtype: bits.to_dtype,
        aten._to_copy.default: bits.to_copy,
        torch.ops.prims.convert_element_type.default: bits.convert_element_type,
        aten.view.dtype: bits.view_dtype,
        aten.batch_norm.default: batch_norm,
        aten._native_batch_norm_legit_no_training.default: batch_norm_of_inference,
        **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), convolution.conv),
        **dict.fromkeys(
            (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
            convolution.conv_transpose,
        ),
        aten.convolution.default: convolution.convolution,
        aten.convolution_backward.default: gradients.convolution_backward,
        aten.avg_pool2d_backward.default: gradients.avg_pool2d_backward,
        aten._adaptive_avg_pool2d_backward.default: gradients.adaptive_avg_pool2d_backward,
        aten._cdist_forward.default: distances.cdist,
        aten._pdist_forward.default: distances.pdist,
        aten.max_pool2d_with_indices.default: pooling.max_pool2d_with_indices,
        aten.max_pool3d_with_indices.default: pooling.max_pool3d_with_indices,
        aten.max_pool2d.default: pooling.max_pool2d,
        aten.max_pool3d.default: pooling.max_pool3d,
        aten.avg_pool2d.default: pooling.avg_pool2d,
        aten.avg_pool3d.default: pooling.avg_pool3d,
        aten.adaptive_avg_pool1d.default: pooling.adaptive_avg_pool,
        aten.adaptive_avg_pool2d.default: pooling.adaptive_avg_pool,
        aten.adaptive_avg_pool3d.default: pooling.adaptive_avg_pool,
        aten._adaptive_avg_pool2d.default: pooling.adaptive_avg_pool,
        aten._adaptive_avg_pool3d.default: pooling.adaptive_avg_pool,
        aten.log1p.default: pointwise.log1p,
        aten.expm1.default: pointwise.expm1,
        aten.log_sigmoid.default: pointwise.log_sigmoid,
        aten.elu.default: pointwise.elu,
        aten.celu.default: pointwise.celu,
        aten.log2.default: pointwise.log2,
        aten.log10.default: pointwise.log10,
        **hyperbolic.TRANSLATIONS,
        aten.leaky_relu.default: pointwise.leaky_relu,
        aten.addcmul.default: pointwise.addcmul,
        aten.addcdiv.default: pointwise.addcdiv,
        aten.hardtanh.default: pointwise.hardtanh,
        aten.rrelu.default: pointwise.rrelu,
        aten.hypot.default: pointwise.hypot,
        aten.remainder.Tensor: pointwise.remainder,
        aten.remainder.Scalar: pointwise.remainder_scalar,
        aten.remainder.Scalar_Tensor: pointwise.remainder_of_scalar,
        aten.fmod.Tensor: pointwise.fmod,
        aten.fmod.Scalar: pointwise.fmod_scalar,
        **dict.fromkeys((aten.div.Tensor_mode, aten.div.Scalar_mode), division.div_mode),
        **dict.fromkeys((aten.floor_divide.default, aten.floor_divide.Scalar), division.floor_divide),
        aten.pow.Tensor_Tensor: pointwise.pow_tensor,
        aten.pow.Tensor_Scalar: pointwise.pow_scalar,
        aten.square.default: pointwise.square,
        aten.signbit.default: pointwise.signbit,
        aten.copysign.Tensor: pointwise.copysign,
        aten.copysign.Scalar: pointwise.copysign_scalar,
        aten.softmax.int: pointwise.softmax,
        aten.log_softmax.int: pointwise.log_softmax,
        aten.sort.stable: ordering.sort_stable,
        aten.argsort.stable: ordering.argsort_stable,
        aten.kthvalue.default: ordering.kthvalue,
        aten.cumprod.default: ordering.cumprod if opset < 26 else ordering.cumprod_node,
        aten.amax.default: ordering.amax,
        aten.amin.default: ordering.amin,
        aten.mean.dim: ordering.mean_dim,
        aten.scatter.src: scattering.scatter_src,
        aten.scatter.reduce: scattering.scatter_reduce_src,
        aten.scatter.value_reduce: scattering.scatter_reduce_value,
        aten.scatter_reduce.two: scattering.scatter_reduce,
        aten.copy.default: scattering.copy,
        aten._upsample_nearest_exact1d.default: upsample_nearest_exact,
        aten._upsample_nearest_exact2d.default: upsample_nearest_exact,
        aten._upsample_nearest_exact3d.default: upsample_nearest_exact,
        aten.upsample_linear1d.vec: upsample_linear1d,
        aten._int_mm.default: integers.int_mm,
        aten.floor.default: integers.rounding("Floor"),
        aten.ceil.default: integers.rounding("Ceil"),
        aten.round.default: integers.rounding("Round"),
        aten.trunc.default: integers.trunc,
        aten.isnan.default: integers.isnan,
        aten.isfinite.default: integers.isfinite,
        **dict.fromkeys((aten.any.default, aten.any.dim, aten.any.dims), integers.truth("ReduceMax")),
        **dict.fromkeys((aten.all.default, aten.all.dim, aten.all.dims), integers.truth("ReduceMin")),
        aten.relu.default: integers.relu,
        **dict.fromkeys((aten.__lshift__.Tensor, aten.__lshift__.Scalar), bits.shift_left),
        **dict.fromkeys((aten.__rshift__.Tensor, aten.__rshift__.Scalar), bits.shift_right),
        **dict.fromkeys(
            (aten.bitwise_left_shift.Tensor, aten.bitwise_left_shift.Tensor_Scalar), bits.shift_left
        ),
        **dict.fromkeys(
            (aten.bitwise_right_shift.Tensor, aten.bitwise_right_shift.Tensor_Scalar), bits.shift_right
        ),
        aten.linear.default: integers.linear,
        aten.addmm.default: integers.addmm,
        **dict.fromkeys((aten.cat.default, aten.concat.default, aten.concatenate.default), integers.cat),
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


def reshape(x: OnnxValue, shape: Sequence[Any]) -> OnnxValue:
    """A size of 0 is a size; torch.onnx lets it stand for the operand's own, as ONNX does unless told."""
    op = operators(18)
    given = any(isinstance(size, int) and size == -1 for size in shape)
    return op.Reshape(x, _spatial(shape), allowzero=int(not given and not all(map(_is_positive, shape))))


def _is_positive(size: Any) -> bool:
    return isinstance(size, int) and size > 0


def movedim(x: OnnxValue, source: int, destination: int) -> OnnxValue:
    op = operators(18)
    rank = len(x.shape)
    order = [axis for axis in range(rank) if axis != source % rank]
    order.insert(destination % rank, source % rank)
    return op.Transpose(x, perm=order)


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
    if is_double(x):
        columns = ints(-1, *[1] * (len(x.shape) - 2))
        factor = op.Div(weight, op.Sqrt(op.Add(running_var, scalar(eps, x))))
        centred = op.Sub(x, op.Reshape(running_mean, columns))
        return op.Add(op.Mul(centred, op.Reshape(factor, columns)), op.Reshape(bias, columns))
    return op.BatchNormalization(x, weight, bias, running_mean, running_var, epsilon=eps)


def batch_norm_of_inference(
    x: OnnxValue,
    weight: OnnxValue,
    bias: OnnxValue,
    running_mean: OnnxValue,
    running_var: OnnxValue,
    momentum: float,
    eps: float,
) -> tuple[OnnxValue, OnnxValue, OnnxValue]:
    """Batch statistics do not exist in inference: torch returns two empty tensors for them."""
    op = operators(15)
    y = batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, False)
    empty = op.Slice(running_mean, ints(0), ints(0), ints(0))
    return y, op.Identity(empty), op.Identity(empty)


def _filled(number: float, like: OnnxValue) -> OnnxValue:
    return operators(18).Expand(scalar(number, like), ints(like.shape[0]))


# -- pooling, resizing ---------------------------------------------------------------------------


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
    sizes = op.Concat(op.Shape(x, start=0, end=2), _spatial(output_size), axis=0)
    return op.Resize(x, None, None, sizes, mode="linear", coordinate_transformation_mode=rule)


def upsample_nearest_exact(x: OnnxValue, output_size: Sequence[Any], *scales: float | None) -> OnnxValue:
    """The pixel whose centre is nearest; of two the later one, as ``floor((i + 0.5) * scale)`` has it."""
    op = operators(19)
    sizes = op.Concat(op.Shape(x, start=0, end=2), _spatial(output_size), axis=0)
    given = [s for s in scales if s is not None]
    if given:
        raise InputError("nearest-exact resizing by factors has no ONNX form; give sizes", code="GO-3006")
    return op.Resize(
        x, None, None, sizes, mode="nearest", coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    )  # fmt: skip


def _spatial(sizes: Sequence[Any]) -> OnnxValue:
    """Sizes, some of them computed, as one 1-d tensor."""
    if all(isinstance(s, int) for s in sizes):
        return ints(*sizes)
    op = operators(18)
    parts = [ints(s) if isinstance(s, int) else op.Reshape(s, ints(1)) for s in sizes]
    return op.Concat(*parts, axis=0)
