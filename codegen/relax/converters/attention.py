"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import torch
from torch import fx
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.blocked_attention import blocked_attention
from graphopt.codegen.relax.context import Context, Expr, Unsupported, dtype_of, rank_of, shape_of
from graphopt.codegen.relax.converters.linear import product
from graphopt.codegen.relax.converters.shape import permute_axes
from graphopt.codegen.relax.dtypes import FLOATS, arithmetic_dtype
from graphopt.codegen.relax.elementwise import load
from graphopt.codegen.relax.gemm import gemm, on_gpu
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.rows import reduce_rows
from graphopt.codegen.relax.split_attention import MOST_QUERIES, split_attention
from graphopt.codegen.relax.symbols import int64, known
from graphopt.codegen.relax.weights import weight_of

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
    groups = _groups(context, query, key) if enable_gqa else 1
    factor = s.constant(scale, "float64") if scale is not None else _default_scale(shape_of(query)[-1])
    queries = query
    if groups != 1:
        *lead, _, length, size = shape_of(query)
        queries = context.reshape(query, [*lead, shape_of(key)[-3], int64(groups) * length, size])
    known_mask = None if mask is None else weight_of(_argument(context.node, 3, "attn_mask"))
    if known_mask is not None and _hides_nothing(known_mask):
        mask = None
    masks = [mask] if mask is not None else []

    def score(index: Sequence[Any], product: Any, masks: Sequence[Any]) -> Any:
        return _logit(index, product, masks, causal, factor, arithmetic_dtype(dtype_of(query)))

    if _fits_blocks(context, queries, key, value):
        length = shape_of(query)[-2]
        result = _in_blocks(context, queries, key, value, masks, score, groups, length, causal)
    else:
        result = _whole(context, queries, key, value, masks, score, shape_of(query)[:-1])
    return context.reshape(result, context.shape)


def _argument(node: fx.Node, position: int, name: str) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs[name]


def _hides_nothing(mask: torch.Tensor) -> bool:
    """Whether a mask lets every query see every key as it is."""
    return bool(mask.all()) if mask.dtype == torch.bool else not bool(mask.any())


Score = Callable[[Sequence[Any], Any, Sequence[Any]], Any]
"""What softmax is taken of, from an index ``(..., query, key)``, the product there and the masks."""


def _logit(
    index: Sequence[Any], product: Any, masks: Sequence[Any], causal: bool, scale: Any, wide: str
) -> Any:
    value = s.cast(product, wide) * s.cast(scale, wide)
    if causal:
        value = tirx.Select(index[-1] <= index[-2], value, s.lowest(wide))
    for mask in masks:
        entry = load(mask, index)
        if str(mask.dtype) == "bool":
            value = tirx.Select(entry, value, s.lowest(wide))
        else:
            value = value + s.cast(entry, wide)
    return value


def _fits_blocks(context: Context, query: Expr, key: Expr, value: Expr) -> bool:
    if context.registers is None or dtype_of(query) != "float32" or rank_of(query) not in (3, 4):
        return False
    same = context.symbols.same
    if not all(
        same(a, b)
        for other in (key, value)
        for a, b in zip(shape_of(query)[:-2], shape_of(other)[:-2], strict=True)
    ):
        return False
    depth, width = known(shape_of(query)[-1]), known(shape_of(value)[-1])
    if depth is None or width is None or not _fills_vectors(context, width):
        return False
    return not _are_few(query) or _fills_vectors(context, depth) or int(known(shape_of(query)[-2]) or 0) >= 4


def _fills_vectors(context: Context, size: int) -> bool:
    """A quarter of a register at least."""
    assert context.registers is not None
    return 4 * gcd(size, context.registers.lanes) >= context.registers.lanes


def _are_few(query: Expr) -> bool:
    """Whether keys would be packed for too few queries."""
    rows = known(shape_of(query)[-2])
    return rows is not None and rows <= MOST_QUERIES


def _in_blocks(
    context: Context,
    query: Expr,
    key: Expr,
    value: Expr,
    masks: list[Expr],
    score: Score,
    groups: int,
    length: Any,
    causal: bool,
) -> Expr:
    """The kernel for blocks of queries; of groups of heads, it sees all queries of one key's head."""
    has_heads = rank_of(query) == 4

    def with_heads(x: Expr) -> Expr:
        return x if has_heads else context.reshape(x, [shape_of(x)[0], 1, *shape_of(x)[1:]])

    def logit(buffers: Sequence[Any]) -> Callable[..., Any]:
        def at(b: Any, h: Any, m: Any, n: Any, product: Any) -> Any:
            if groups != 1:
                h, m = h * groups + tirx.floordiv(m, length), tirx.floormod(m, length)
            return score((b, h, m, n) if has_heads else (b, m, n), product, buffers)

        return at

    def reach(first: Any, last: Any) -> Any:
        # Queries of several heads of a group: the last query of all sees most.
        together = tirx.EQ(tirx.floordiv(first, length), tirx.floordiv(last, length))
        return tirx.Select(together, tirx.floormod(last, length), length - 1) + 1

    q, k, v = (with_heads(x) for x in (query, key, value))
    if _are_few(query) and _fills_vectors(context, int(known(shape_of(query)[-1]) or 0)):
        return split_attention(context, q, k, v, masks, logit)
    return blocked_attention(context, q, k, v, masks, logit, reach if causal else None)


def _whole(
    context: Context, query: Expr, key: Expr, value: Expr, masks: list[Expr], score: Score, rows: list[Any]
) -> Expr:
    """Scores, weights and result, each as a whole."""
    rank = rank_of(query)
    if on_gpu(context, dtype_of(query)):
        scores = gemm(context, query, key, transposed=True)
    else:
        keys = permute_axes(context, key, [*range(rank - 2), rank - 1, rank - 2])
        scores = product(context, query, keys)
    folded = shape_of(scores)
    scores = context.reshape(scores, [*rows, shape_of(key)[-2]])
    weights = _masked_softmax(context, scores, masks, score, dtype_of(query))
    return product(context, context.reshape(weights, folded), value)


def _groups(context: Context, query: Expr, key: Expr) -> int:
    ratio = context.symbols.analyzer.simplify(tirx.floordiv(shape_of(query)[-3], shape_of(key)[-3]))
    if not isinstance(ratio, tirx.IntImm):
        raise Unsupported("grouped attention with a symbolic number of heads")
    return int(ratio.value)


def _default_scale(size: Any) -> Any:
    if isinstance(size, tirx.IntImm):
        return s.constant(1.0 / math.sqrt(int(size.value)), "float64")
    return s.constant(1.0, "float64") / tirx.sqrt(s.cast(size, "float64"))


def _masked_softmax(context: Context, scores: Expr, masks: list[Expr], score: Score, dtype: str) -> Expr:
    """Scale, mask and softmax over the last axis in one kernel."""
    wide = arithmetic_dtype(dtype)
    shape = shape_of(scores)
    rows = [*shape[:-1], int64(1)]

    def define(data: te.Tensor, *masks: te.Tensor) -> te.Tensor:
        logits = te.compute(shape, lambda *i: score(i, data(*i), masks), name="logits")
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

    return context.kernel("attention_softmax", [scores, *masks], define)
