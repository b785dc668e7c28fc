"""Scaled dot-product attention in ONNX: one Attention node, or MatMul and Softmax for older opsets.

torch.onnx 2.13 rejects operands of rank 3, and GQA whose numbers of heads happen to be equal; its
expansion for opsets below 23 attends evenly where a boolean mask hides a whole row, torch gives 0.
"""

from __future__ import annotations

import math

import torch

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, ints, is_double, is_one, operators, scalar


def attention_node(
    query: OnnxValue,
    key: OnnxValue,
    value: OnnxValue,
    attn_mask: OnnxValue = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> OnnxValue:
    """One Attention node, and what onnxruntime's kernel needs around it."""
    op = operators(23)

    _check_attention(query, key, value, dropout_p)
    rank = len(query.shape)
    if rank > 4 or is_double(query):  # the kernel's type is float32
        return attention_nodes(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    mask_rank = len(attn_mask.shape) if attn_mask is not None else 0
    if attn_mask is not None:
        attn_mask = _mask_for_kernel(attn_mask, query)
    if rank < 4:
        query, key, value = (op.Unsqueeze(t, ints(*range(4 - rank))) for t in (query, key, value))
    if mask_rank == 3:
        attn_mask = op.Unsqueeze(attn_mask, ints(0))
    y, _, _, _ = op.Attention(query, key, value, attn_mask, scale=scale, is_causal=int(is_causal))
    return op.Squeeze(y, ints(*range(4 - rank))) if rank < 4 else y


def _mask_for_kernel(mask: OnnxValue, query: OnnxValue) -> OnnxValue:
    """The mask in a form that onnxruntime's Attention kernel treats as torch does.

    The kernel rejects a mask that broadcasts over query positions.  And it takes the lowest finite
    number for -inf: a row full of it gives 0, where torch attends evenly.
    """
    import onnx_ir

    op = operators(23)
    shape = list(mask.shape)
    if mask.dtype != onnx_ir.DataType.BOOL:
        lowest = torch.finfo(getattr(torch, mask.dtype.numpy().name)).min
        at_bottom = op.Equal(mask, scalar(lowest, mask))
        mask = op.Where(at_bottom, scalar(lowest * 0.99, mask), mask)
    one_row = len(shape) < 2 or isinstance(shape[-2], int) and shape[-2] == 1
    if one_row and not is_one(query, -2):
        lead = ints(*[1] * max(len(shape) - 2, 0))
        rows = op.Shape(query, start=-2, end=-1)
        mask = op.Expand(mask, op.Concat(lead, rows, ints(1), axis=0))
    return mask


def attention_nodes(
    query: OnnxValue,
    key: OnnxValue,
    value: OnnxValue,
    attn_mask: OnnxValue = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> OnnxValue:
    """Attention in MatMul and Softmax, for opsets without the Attention node."""
    import onnx_ir

    op = operators(18)

    _check_attention(query, key, value, dropout_p)
    rank = len(query.shape)
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key, value = (_repeat_heads(t, query.shape[-3] // t.shape[-3]) for t in (key, value))
    order = [*range(rank - 2), rank - 1, rank - 2]
    factor = scale if scale is not None else 1.0 / math.sqrt(_width(query))
    scaled = op.Mul(query, _scale(factor, query))
    scores = op.MatMul(scaled, op.Transpose(key, perm=order))
    if is_causal:
        rows, columns = op.Shape(query, start=-2, end=-1), op.Shape(key, start=-2, end=-1)
        ones = op.ConstantOfShape(
            op.Concat(rows, columns, axis=0), value=onnx_ir.tensor([1], dtype=onnx_ir.DataType.INT64)
        )
        visible = op.Cast(op.Trilu(ones, upper=0), to=onnx_ir.DataType.BOOL)
        scores = op.Where(visible, scores, scalar(float("-inf"), query))
    if attn_mask is None:
        return op.MatMul(op.Softmax(scores, axis=-1), value)
    if attn_mask.dtype == onnx_ir.DataType.BOOL:
        scores = op.Where(attn_mask, scores, scalar(float("-inf"), query))
    else:
        scores = op.Add(scores, attn_mask)
    weights = op.Softmax(scores, axis=-1)
    # A row that is masked as a whole is 0 / 0 here and 0 in torch.
    weights = op.Where(op.IsNaN(weights), scalar(0.0, query), weights)
    return op.MatMul(weights, value)


def _scale(factor: float, query: OnnxValue) -> OnnxValue:
    """The factor; of float64 once for each column: onnxruntime fuses one number as a float32 attribute."""
    import numpy as np
    import onnx_ir

    if not is_double(query):
        return scalar(factor, query)
    return operators(18).Constant(value=onnx_ir.tensor(np.full(_width(query), factor)))


def _check_attention(query: OnnxValue, key: OnnxValue, value: OnnxValue, dropout_p: float) -> None:
    if dropout_p:
        raise InputError(
            "attention with dropout has no ONNX form", code="GO-3006", hint="put the model in eval mode"
        )
    if not len(query.shape) == len(key.shape) == len(value.shape) >= 2:
        raise InputError("query, key and value of attention have different ranks", code="GO-3006")


def _repeat_heads(x: OnnxValue, times: int) -> OnnxValue:
    """``[B, H, S, D]`` -> ``[B, H * times, S, D]``, each head repeated in place."""
    op = operators(18)

    wide = op.Unsqueeze(x, ints(-3))
    copies = op.Concat(*[wide] * times, axis=-3)
    shape = op.Concat(op.Shape(x, start=0, end=-3), ints(x.shape[-3] * times), op.Shape(x, start=-2), axis=0)
    return op.Reshape(copies, shape)


def _width(query: OnnxValue) -> int:
    width = query.shape[-1]
    if not isinstance(width, int):
        raise InputError("attention with a symbolic head width has no ONNX form", code="GO-3006")
    return width
