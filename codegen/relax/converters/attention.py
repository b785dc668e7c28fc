"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, Unsupported, dtype_of, rank_of, shape_of
from graphopt.codegen.relax.converters.linear import product
from graphopt.codegen.relax.converters.shape import permute_axes
from graphopt.codegen.relax.dtypes import FLOATS, arithmetic_dtype
from graphopt.codegen.relax.elementwise import load
from graphopt.codegen.relax.gemm import gemm, on_gpu
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.rows import reduce_rows
from graphopt.codegen.relax.symbols import int64

aten = torch.ops.aten


@converter(aten.scaled_dot_product_attention.default, dtypes=FLOATS)
def scaled_dot_product_attention(
    context: Context,
    query: Expr,
    key: Expr,
    value: Expr,
    mask: Expr | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Expr:
    """softmax(q kᵀ · scale + mask) v over ``[..., length, head size]``.

    Grouped queries are folded into the query length's axis, so that keys and values are not repeated.
    Rows with no key allowed are zero where torch's mask is boolean (``_safe_softmax``).
    """
    if dropout:
        raise Unsupported("attention with dropout")
    dtype = dtype_of(query)
    rank = rank_of(query)
    swap = [*range(rank - 2), rank - 1, rank - 2]
    groups = _groups(context, query, key) if enable_gqa else 1
    scores_shape = [*shape_of(query)[:-1], shape_of(key)[-2]]
    queries = query
    if groups != 1:
        *lead, heads, length, size = shape_of(query)
        shared = shape_of(key)[-3]
        queries = context.reshape(query, [*lead, shared, int64(groups) * length, size])
    if on_gpu(context, dtype):
        raw = gemm(context, queries, key, transposed=True)
    else:
        raw = product(context, queries, permute_axes(context, key, swap))
    scores = context.reshape(raw, scores_shape)
    factor = s.constant(scale, "float64") if scale is not None else _default_scale(shape_of(query)[-1])
    weights = _masked_softmax(context, scores, mask, causal, factor, dtype)
    if groups != 1:
        *lead, heads, length, columns = scores_shape
        weights = context.reshape(weights, [*lead, shape_of(key)[-3], int64(groups) * length, columns])
    return context.reshape(product(context, weights, value), context.shape)


def _groups(context: Context, query: Expr, key: Expr) -> int:
    ratio = context.symbols.analyzer.simplify(tirx.floordiv(shape_of(query)[-3], shape_of(key)[-3]))
    if not isinstance(ratio, tirx.IntImm):
        raise Unsupported("grouped attention with a symbolic number of heads")
    return int(ratio.value)


def _default_scale(size: Any) -> Any:
    if isinstance(size, tirx.IntImm):
        return s.constant(1.0 / math.sqrt(int(size.value)), "float64")
    return s.constant(1.0, "float64") / tirx.sqrt(s.cast(size, "float64"))


def _masked_softmax(
    context: Context, scores: Expr, mask: Expr | None, causal: bool, scale: Any, dtype: str
) -> Expr:
    """Scale, mask and softmax over the last axis in one kernel."""
    wide = arithmetic_dtype(dtype)
    shape = shape_of(scores)
    rows = [*shape[:-1], int64(1)]
    boolean = mask is not None and dtype_of(mask) == "bool"

    def define(data: te.Tensor, *masks: te.Tensor) -> te.Tensor:
        def logit(*i: Any) -> Any:
            value = s.cast(data(*i), wide) * s.cast(scale, wide)
            if causal:
                value = tirx.Select(i[-1] <= i[-2], value, s.lowest(wide))
            if masks and boolean:
                value = tirx.Select(load(masks[0], i), value, s.lowest(wide))
            elif masks:
                value = value + s.cast(load(masks[0], i), wide)
            return value

        logits = te.compute(shape, logit, name="logits")
        peak = reduce_rows("peak", rows, shape[-1], lambda i, k: logits(*i[:-1], k), te.max, context.lanes)

        def exponential(*i: Any) -> Any:
            top = peak(*i[:-1], 0)
            # A row of -inf alone would be exp(-inf + inf): keep it at zero.
            top = tirx.Select(tirx.EQ(top, s.lowest(wide)), s.constant(0, wide), top)
            return s.exp(logits(*i) - top)

        exps = te.compute(shape, exponential, name="exp")
        sums = reduce_rows("sum", rows, shape[-1], lambda i, k: exps(*i[:-1], k), te.sum, context.lanes)

        def element(*i: Any) -> Any:
            total = sums(*i[:-1], 0)
            empty = tirx.EQ(total, s.constant(0, wide))
            return s.cast(tirx.Select(empty, s.constant(0, wide), exps(*i) / total), dtype)

        return te.compute(shape, element, name="attention_weights")

    return context.kernel("attention_softmax", [scores, *([mask] if mask is not None else [])], define)
