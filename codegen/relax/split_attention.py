"""Attention of a few queries over many keys, as in decoding: cores share the keys.

With so few queries nothing is used often enough to be packed: the time is that of reading keys and values
once.  So each part of the keys is read as it lies, for all queries of its head at once; it gives a mean of
its values with its peak and sum, and the means are merged by them.  (Dao, Haziza, Massa and Sizov,
"Flash-Decoding for long-context inference", 2023.)
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.blocked_attention import Logit, fill_zero, fold, rounded_up, softmax_row
from graphopt.codegen.relax.context import Context, Expr, shape_of
from graphopt.codegen.relax.symbols import int64, known

MOST_QUERIES = 5
"""More rows are worth packed keys."""

_PARTS = 8  # of all heads together: enough for a few cores to end at about the same time
_SHORTEST_PART = 64  # keys
_ASSUMED_KEYS = 512
_WORTH_SHARING = 1 << 15  # multiply-adds


def split_attention(
    context: Context,
    query: Expr,
    key: Expr,
    value: Expr,
    masks: list[Expr],
    logit: Callable[[list[Any]], Logit],
) -> Expr:
    """softmax(logit(query keyᵀ)) value.

    Args:
        query: ``[B, H, M, D]``, float32; M known, D a multiple of a quarter of a register.
        key: ``[B, H, N, D]``.
        value: ``[B, H, N, DV]``; DV a multiple of a quarter of a register.
        masks: what ``logit`` reads besides.
        logit: of the masks' buffers, the function from a product to what softmax is taken of.

    Returns:
        ``[B, H, M, DV]``.  A row of ``-inf`` alone is zero.
    """
    assert context.registers is not None
    batch, heads, _, width = shape_of(value)
    queries, keys = int(known(shape_of(query)[2]) or 0), shape_of(key)[2]
    lanes, lead = context.registers.lanes, (known(batch) or 1) * (known(heads) or 1)
    length = known(keys) or _ASSUMED_KEYS
    parts = max(1, min(-(-_PARTS // lead), length // _SHORTEST_PART))
    each = rounded_up(tirx.floordiv(keys + (parts - 1), int64(parts)), lanes)
    share = lead * queries * length * int(known(width) or 0) >= _WORTH_SHARING

    def define(q: Any, k: Any, v: Any, *rest: Any) -> None:
        *mask_buffers, result = rest
        score = logit(mask_buffers)
        means = T.sblock_alloc_buffer((batch, heads, parts, queries, width), "float32", scope="global")
        peaks = T.sblock_alloc_buffer((batch, heads, parts, queries), "float32", scope="global")
        sums = T.sblock_alloc_buffer((batch, heads, parts, queries), "float32", scope="global")
        with (T.parallel if share else T.serial)(0, batch * heads * parts) as at, T.sblock("part"):
            b, h = tirx.floordiv(at, heads * parts), tirx.floormod(tirx.floordiv(at, int64(parts)), heads)
            part = tirx.floormod(at, int64(parts))
            start = part * each
            seen = each
            if known(keys) is None or known(each * parts) != known(keys):
                seen = tirx.max(tirx.min(each, keys - start), int64(0))
            # A row more than it holds: rows a multiple of 1 KB apart crowd into few sets of the cache.
            scores = T.sblock_alloc_buffer((queries, each + lanes), "float32", scope="global")
            _scores(q, k, scores, (b, h), start, seen, lanes)
            for row in range(queries):
                place = [b, h, part, row]

                def masked(n: Any, product: Any, row: int = row) -> Any:
                    return score(b, h, int64(row), start + n, product)

                padded = rounded_up(seen, lanes)
                softmax_row(scores, row, masked, seen, padded, lanes, (sums, place), (peaks, place))
            _means(v, scores, sums, means, (b, h, part), start, seen, queries, lanes)
        with T.serial(0, batch) as b, T.serial(0, heads) as h, T.serial(0, queries) as row:
            _merged(means, peaks, sums, result, (b, h, row), parts, lanes)

    shape = [batch, heads, int64(queries), width]
    operands = [query, key, value, *masks]
    return context.loops("split_attention", operands, [(shape, "float32")], define, rule="split-attention")[0]


def _scores(q: Any, k: Any, scores: Any, head: tuple[Any, Any], start: Any, seen: Any, lanes: int) -> None:
    """Products of all queries with the keys from ``start`` on, a register of keys at a time."""
    queries, keys, depth = int(q.shape[2]), k.shape[2], int(q.shape[3])
    width = gcd(depth, lanes)
    with T.serial(0, tirx.floordiv(seen + (lanes - 1), int64(lanes))) as group:
        with T.unroll(0, lanes) as n, T.unroll(0, queries) as row:
            at = tirx.min(start + group * lanes + n, keys - 1)
            partial = T.sblock_alloc_buffer((width,), "float32", scope="local")
            with T.vectorized(0, width) as lane:
                T.buffer_store(partial, s.constant(0, "float32"), [lane])
            with T.unroll(0, depth // width) as chunk, T.vectorized(0, width) as lane:
                d = chunk * width + lane
                T.buffer_store(partial, partial[lane] + q[*head, row, d] * k[*head, at, d], [lane])
            fold(partial, lambda a, b: a + b, width)
            T.buffer_store(scores, partial[0], [row, group * lanes + n])


def _means(
    v: Any,
    scores: Any,
    sums: Any,
    means: Any,
    place: Any,
    start: Any,
    seen: Any,
    queries: int,
    most_lanes: int,
) -> None:
    """The mean of a part's values for each query; each value is read once for all of them."""
    b, h, part = place
    width = int(v.shape[3])
    lanes = gcd(width, most_lanes)
    vectors = width // lanes
    at_once = max(n for n in range(1, vectors + 1) if vectors % n == 0 and (n == 1 or n * queries <= 24))
    with T.serial(0, vectors // at_once) as group:
        total = T.sblock_alloc_buffer((queries, at_once * lanes), "float32", scope="local")
        fill_zero(total, queries, at_once, lanes)
        with T.serial(0, seen) as n, T.unroll(0, queries) as r, T.unroll(0, at_once) as c:
            with T.vectorized(0, lanes) as lane:
                column = c * lanes + lane
                product = scores[r, n] * v[b, h, start + n, group * (at_once * lanes) + column]
                T.buffer_store(total, total[r, column] + product, [r, column])
        with T.unroll(0, queries) as r, T.unroll(0, at_once) as c, T.vectorized(0, lanes) as lane:
            column, zero = c * lanes + lane, s.constant(0, "float32")
            weight = sums[b, h, part, r]
            mean = tirx.Select(tirx.EQ(weight, zero), zero, total[r, column] / weight)
            T.buffer_store(means, mean, [b, h, part, r, group * (at_once * lanes) + column])


def _merged(
    means: Any, peaks: Any, sums: Any, result: Any, place: tuple[Any, Any, Any], parts: int, most_lanes: int
) -> None:
    """The mean over all parts: each counts by its sum, relative to the largest peak."""
    b, h, row = place
    lowest, zero = s.lowest("float32"), s.constant(0, "float32")
    width = int(means.shape[4])
    lanes = gcd(width, most_lanes)
    peak = T.sblock_alloc_buffer((1,), "float32", scope="local")
    weights = T.sblock_alloc_buffer((parts,), "float32", scope="local")
    whole = T.sblock_alloc_buffer((1,), "float32", scope="local")
    T.buffer_store(peak, lowest, [0])
    with T.serial(0, parts) as part:
        T.buffer_store(peak, tirx.max(peak[0], peaks[b, h, part, row]), [0])
    T.buffer_store(peak, tirx.Select(tirx.EQ(peak[0], lowest), zero, peak[0]), [0])
    T.buffer_store(whole, zero, [0])
    with T.serial(0, parts) as part:
        share = sums[b, h, part, row] * s.exp_of_nonpositive(peaks[b, h, part, row] - peak[0])
        T.buffer_store(weights, share, [part])
        T.buffer_store(whole, whole[0] + weights[part], [0])
    T.buffer_store(whole, tirx.Select(tirx.EQ(whole[0], zero), s.constant(1, "float32"), whole[0]), [0])
    total = T.sblock_alloc_buffer((lanes,), "float32", scope="local")
    with T.serial(0, width // lanes) as chunk:
        with T.vectorized(0, lanes) as lane:
            T.buffer_store(total, zero, [lane])
        with T.serial(0, parts) as part, T.vectorized(0, lanes) as lane:
            mean = means[b, h, part, row, chunk * lanes + lane]
            T.buffer_store(total, total[lane] + weights[part] * mean, [lane])
        with T.vectorized(0, lanes) as lane:
            T.buffer_store(result, total[lane] / whole[0], [b, h, row, chunk * lanes + lane])
