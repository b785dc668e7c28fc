"""Attention in blocks of queries whose scores never leave the cache.

A block's scores are a few rows over all keys.  They are computed in register tiles, scaled, masked and
made weights in place, and multiplied with the values, before the next block begins: the matrix of all
scores, which is larger than everything else in attention, is never written to memory.  (Rabe and Staats,
"Self-attention Does Not Need O(n^2) Memory", 2021; Dao et al., "FlashAttention", 2022.  Rows of scores fit
a CPU's cache whole, so that no running maximum has to be kept.)
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, shape_of
from graphopt.codegen.relax.converters.indexing import block
from graphopt.codegen.relax.symbols import int64, known
from graphopt.codegen.schedules.cpu.tiling import PackedTile

_SCORES = 1 << 15  # bytes of scores that stay in the first or second cache beside keys and values
_ASSUMED_KEYS = 512

Reach = Callable[[Any, Any], Any]
"""How many keys, from the first on, the queries from a first to a last one (both inclusive) can see."""

Logit = Callable[[Any, Any, Any, Any, Any], Any]
"""The scaled and masked score, of ``(batch, head, query, key, product)``."""


def blocked_attention(
    context: Context,
    query: Expr,
    key: Expr,
    value: Expr,
    masks: list[Expr],
    logit: Callable[[list[Any]], Logit],
    reach: Reach | None = None,
) -> Expr:
    """softmax(logit(query keyᵀ)) value.

    Args:
        query: ``[B, H, M, D]``, float32.
        key: ``[B, H, N, D]``.
        value: ``[B, H, N, DV]``; DV a multiple of a quarter of a register.
        masks: what ``logit`` reads besides.
        logit: of the masks' buffers, the function from a product to what softmax is taken of.
        reach: None where every query sees every key.

    Returns:
        ``[B, H, M, DV]``.  A row of ``-inf`` alone is zero.
    """
    assert context.registers is not None
    batch, heads, rows, depth = shape_of(query)
    keys, width = shape_of(key)[2], int(known(shape_of(value)[3]) or 0)
    lanes = context.registers.lanes
    tile = _tile(context, rows, keys)
    packed = _packed_keys(context, key, tile.columns)
    tiles = _tiles_a_block(known(rows), known(keys), tile)
    height = tile.rows * tiles
    blocks = tirx.floordiv(rows + (height - 1), int64(height))

    def define(q: Any, k: Any, v: Any, *rest: Any) -> None:
        *mask_buffers, result = rest
        score = logit(mask_buffers)
        with block("attention", [batch, heads, blocks]) as (b, h, part):
            # A row more than it holds: rows a multiple of 1 KB apart crowd into few sets of the cache.
            longest = rounded_up(keys, tile.columns) + lanes
            scores = T.sblock_alloc_buffer((height, longest), "float32", scope="global")
            sums = T.sblock_alloc_buffer((height,), "float32", scope="local")
            first = part * height
            seen = keys
            if reach is not None:
                last = tirx.min(first + height, rows) - 1
                seen = tirx.min(rounded_up(reach(first, last), lanes), keys)
            length = rounded_up(seen, tile.columns)
            with T.serial(0, tiles) as t:
                with T.serial(0, tirx.floordiv(length, int64(tile.columns))) as panel:
                    _products(q, k, scores, (b, h, first, t, panel), tile, rows, depth, lanes)
            with T.serial(0, height) as row:
                at = tirx.min(first + row, rows - 1)

                def masked(n: Any, product: Any, at: Any = at) -> Any:
                    return score(b, h, at, n, product)

                softmax_row(scores, row, masked, seen, length, lanes, (sums, [row]))
            with T.serial(0, tiles) as t:
                _weighted_values(v, scores, sums, result, (b, h, first, t), tile, rows, seen, width, lanes)

    shape = [batch, heads, rows, int64(width)]
    return context.loops("blocked_attention", [query, packed, value, *masks], [(shape, "float32")], define)[0]


def _tile(context: Context, rows: Any, keys: Any) -> PackedTile:
    """Rows and keys of a register tile; whole registers, since rows of scores are made of them."""
    assert context.registers is not None
    lanes, most = context.registers.lanes, context.registers.accumulators
    size, number = known(rows), known(keys)
    best: tuple[float, PackedTile] | None = None
    for vectors in (1, 2, 3):
        for height in range(1, most // vectors + 1):
            if size is None and height > 8:
                continue
            columns = lanes * vectors
            useful = 1.0 if number is None else number / (-(-number // columns) * columns)
            useful *= 0.5 + 0.5 * (1.0 if size is None else size / (-(-size // height) * height))
            work, loads = height * vectors, height + vectors
            score = useful * work / (work + loads) * min(1.0, work / 8)
            if best is None or score > best[0]:
                best = score, PackedTile(height, columns)
    assert best is not None
    return best[1]


def _tiles_a_block(rows: int | None, keys: int | None, tile: PackedTile) -> int:
    """Register tiles, one below the other, whose scores are kept at once."""
    if rows is None:
        return 1
    total = -(-rows // tile.rows)
    fitting = max(1, _SCORES // (4 * tile.rows * (keys or _ASSUMED_KEYS)))
    return -(-total // -(-total // fitting))


def rounded_up(number: Any, multiple: int) -> Any:
    """``number``, or the least multiple above it."""
    size = known(number)
    if size is not None:
        return int64(-(-size // multiple) * multiple)
    return tirx.floordiv(number + (multiple - 1), int64(multiple)) * multiple


def _packed_keys(context: Context, key: Expr, columns: int) -> Expr:
    """``[B, H, N, D]`` to ``[B, H, ⌈N / columns⌉, D, columns]``, filled up with zeros."""
    batch, heads, keys, depth = shape_of(key)
    panels = tirx.floordiv(rounded_up(keys, columns), int64(columns))
    whole = known(keys) is not None and int(known(keys) or 0) % columns == 0

    def define(data: te.Tensor) -> te.Tensor:
        def element(b: Any, h: Any, panel: Any, d: Any, column: Any) -> Any:
            n = panel * columns + column
            if whole:
                return data(b, h, n, d)
            return tirx.if_then_else(n < keys, data(b, h, n, d), s.constant(0, "float32"))

        return te.compute([batch, heads, panels, depth, int64(columns)], element, name="packed_keys")

    return context.kernel("packed_keys", [key], define)


def _products(
    q: Any, k: Any, scores: Any, place: tuple[Any, ...], tile: PackedTile, rows: Any, depth: Any, lanes: int
) -> None:
    """A tile of products of queries and keys, in registers, and its way to the scores."""
    b, h, first, t, panel = place
    vectors = tile.columns // lanes
    total = T.sblock_alloc_buffer((tile.rows, tile.columns), "float32", scope="local")
    fill_zero(total, tile.rows, vectors, lanes)
    with T.serial(0, depth) as d, T.unroll(0, tile.rows) as r, T.unroll(0, vectors) as v:
        with T.vectorized(0, lanes) as lane:
            row = tirx.min(first + t * tile.rows + r, rows - 1)
            column = v * lanes + lane
            product = q[b, h, row, d] * k[b, h, panel, d, column]
            T.buffer_store(total, total[r, column] + product, [r, column])
    with T.unroll(0, tile.rows) as r, T.unroll(0, vectors) as v, T.vectorized(0, lanes) as lane:
        column = v * lanes + lane
        T.buffer_store(scores, total[r, column], [t * tile.rows + r, panel * tile.columns + column])


def softmax_row(
    scores: Any,
    row: Any,
    masked: Callable[..., Any],
    keys: Any,
    length: Any,
    lanes: int,
    sum_at: tuple[Any, list[Any]],
    peak_at: tuple[Any, list[Any]] | None = None,
) -> None:
    """exp(logit - largest logit) over one row of scores, in place.

    Args:
        length: ``keys`` rounded up to whole registers; scores beyond the keys become zero.
        sum_at, peak_at: buffer and place for the sum, and for the largest logit.
    """
    lowest = s.lowest("float32")
    peak = T.sblock_alloc_buffer((lanes,), "float32", scope="local")
    whole = tirx.floordiv(keys, int64(lanes))
    with T.vectorized(0, lanes) as lane:
        T.buffer_store(peak, lowest, [lane])
    with T.serial(0, whole) as chunk:
        with T.vectorized(0, lanes) as lane:
            n = chunk * lanes + lane
            T.buffer_store(scores, masked(n, scores[row, n]), [row, n])
        with T.vectorized(0, lanes) as lane:
            T.buffer_store(peak, tirx.max(peak[lane], scores[row, chunk * lanes + lane]), [lane])
    if known(keys) is None or int(known(keys) or 0) % lanes:
        with T.serial(0, length - whole * lanes) as rest:
            n = whole * lanes + rest
            inside = tirx.if_then_else(n < keys, masked(n, scores[row, n]), lowest)
            T.buffer_store(scores, inside, [row, n])
            T.buffer_store(peak, tirx.max(peak[0], scores[row, n]), [0])
    elif known(length) != known(keys):
        with T.serial(0, length - keys) as rest:
            T.buffer_store(scores, lowest, [row, keys + rest])
    fold(peak, tirx.max, lanes)
    if peak_at is not None:
        T.buffer_store(peak_at[0], peak[0], peak_at[1])
    # A row of -inf alone would be exp(-inf + inf): keep it at zero.
    top = tirx.Select(tirx.EQ(peak[0], lowest), s.constant(0, "float32"), peak[0])
    shift = T.sblock_alloc_buffer((1,), "float32", scope="local")
    T.buffer_store(shift, top, [0])
    total = T.sblock_alloc_buffer((lanes,), "float32", scope="local")
    with T.vectorized(0, lanes) as lane:
        T.buffer_store(total, s.constant(0, "float32"), [lane])
    with T.serial(0, tirx.floordiv(length, int64(lanes))) as chunk:
        with T.vectorized(0, lanes) as lane:
            n = chunk * lanes + lane
            T.buffer_store(scores, s.exp_of_nonpositive(scores[row, n] - shift[0]), [row, n])
        with T.vectorized(0, lanes) as lane:
            T.buffer_store(total, total[lane] + scores[row, chunk * lanes + lane], [lane])
    fold(total, lambda a, b: a + b, lanes)
    T.buffer_store(sum_at[0], total[0], sum_at[1])


def _weighted_values(
    v: Any,
    scores: Any,
    sums: Any,
    result: Any,
    place: tuple[Any, ...],
    tile: PackedTile,
    rows: Any,
    keys: Any,
    width: int,
    value_lanes: int,
) -> None:
    """A tile's rows of weights times the values, normalised and written."""
    b, h, first, t = place
    lanes = gcd(width, value_lanes)
    vectors = width // lanes
    at_once = max(n for n in range(1, vectors + 1) if vectors % n == 0 and (n == 1 or n * tile.rows <= 24))
    with T.serial(0, vectors // at_once) as group:
        total = T.sblock_alloc_buffer((tile.rows, at_once * lanes), "float32", scope="local")
        fill_zero(total, tile.rows, at_once, lanes)
        with T.serial(0, keys) as n, T.unroll(0, tile.rows) as r, T.unroll(0, at_once) as c:
            with T.vectorized(0, lanes) as lane:
                column = c * lanes + lane
                product = scores[t * tile.rows + r, n] * v[b, h, n, group * (at_once * lanes) + column]
                T.buffer_store(total, total[r, column] + product, [r, column])
        with T.unroll(0, tile.rows) as r:
            row = first + t * tile.rows + r
            with T.If(row < rows), T.Then():
                with T.unroll(0, at_once) as c, T.vectorized(0, lanes) as lane:
                    column = c * lanes + lane
                    total_weight = sums[t * tile.rows + r]
                    zero = s.constant(0, "float32")
                    mean = tirx.Select(tirx.EQ(total_weight, zero), zero, total[r, column] / total_weight)
                    T.buffer_store(result, mean, [b, h, row, group * (at_once * lanes) + column])


def fill_zero(buffer: Any, rows: int, vectors: int, lanes: int) -> None:
    """Zeroes a tile in registers."""
    with T.unroll(0, rows) as r, T.unroll(0, vectors) as v, T.vectorized(0, lanes) as lane:
        T.buffer_store(buffer, s.constant(0, "float32"), [r, v * lanes + lane])


def fold(buffer: Any, operation: Callable[[Any, Any], Any], lanes: int) -> None:
    """Combines a register's lanes into the first, half by half."""
    half = lanes // 2
    while half >= 1:
        with T.vectorized(0, half) as lane:
            T.buffer_store(buffer, operation(buffer[lane], buffer[lane + half]), [lane])
        half //= 2
