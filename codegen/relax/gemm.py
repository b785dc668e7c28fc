"""Products for GPUs, in the one form that :mod:`graphopt.codegen.schedules.cuda.gemm` schedules.

Operands are brought to whole tiles ``[..., rows, depth]`` and ``[..., depth, columns]`` (or ``[...,
columns, depth]``) with zeros beyond their ends; the schedule turns these two stages into copies to shared
memory, so that nothing padded is ever written to global memory, and a convolution becomes a product
without an im2col matrix (implicit GEMM: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning",
arXiv:1410.0759, 2014).  Depth runs along contiguous memory, channels innermost, and all conditions are
the same for the elements of one vector load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import tvm
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, dtype_of, shape_of
from graphopt.codegen.relax.dtypes import accumulator_dtype
from graphopt.codegen.relax.symbols import known
from graphopt.codegen.schedules.cuda.tiles import GEMM_TILE, GemmTile, choose_tile

_LOAD_BYTES = 16
# Rows up to which weights are read once a row.
_FEW_ROWS = 4


def on_gpu(context: Context, dtype: str) -> bool:
    """Whether products of this type take the form of this module."""
    return context.gpu is not None and dtype in ("float32", "float16", "bfloat16")


def is_vector(x: Expr) -> bool:
    """Whether a left operand ``[..., M, K]`` has a single row: then there is nothing to share in a tile."""
    return all(known(size) == 1 for size in shape_of(x)[:-1])


def has_few_rows(x: Expr) -> bool:
    """Whether a left operand ``[..., M, K]`` has so few rows that reading the other takes all the time."""
    sizes = [known(size) for size in shape_of(x)[:-1]]
    return None not in sizes and prod(n for n in sizes if n is not None) <= _FEW_ROWS


def gemv(context: Context, x: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    """``x @ weight.T + bias`` for few rows: each element is a reduction along two rows of memory.

    Tiles would be padded to 16 rows, and one for 64 columns leaves most multiprocessors without a block.
    Here a warp computes an element (:mod:`graphopt.codegen.schedules.cuda.row_reduction`).

    Args:
        x: ``[..., M, K]``.
        weight: ``[N, K]``.
        bias: ``[N]``.
    """
    dtype = dtype_of(x)
    *rows, depth = shape_of(x)
    shape = [*rows, shape_of(weight)[0]]
    wide = accumulator_dtype(dtype)

    def define(a: te.Tensor, b: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")

        def term(*index: Any) -> Any:
            *row, j = index
            return te.sum(s.cast(a(*row, k), wide) * s.cast(b(j, k), wide), axis=k)

        total = te.compute(shape, term, name="product")
        return _result(shape, lambda *i: total(*i), offset, dtype)

    operands = [x, weight, *([bias] if bias is not None else [])]
    return context.kernel("gemv", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def gemm(
    context: Context,
    a: Expr,
    b: Expr,
    bias: Expr | None = None,
    *,
    transposed: bool = False,
    dtype: str | None = None,
) -> Expr:
    """``a @ b + bias``, batches broadcast; ``a @ b.T`` where ``transposed``.

    Args:
        a: ``[..., M, K]``.
        b: ``[..., K, N]``, or ``[..., N, K]``.
        bias: ``[N]``.
        dtype: of the result; sums have the accumulator's type of the operands.
    """
    dtype = dtype or dtype_of(a)
    left, right = shape_of(a), shape_of(b)
    columns = right[-2] if transposed else right[-1]
    rows, depth = left[-2:]
    lead = _broadcast(left[:-2], right[:-2])
    contiguous = depth if transposed else columns
    tile = _tile(context, a, lead, rows, columns, depth, contiguous, transposed)

    def define(x: te.Tensor, y: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def from_left(outer: Sequence[Any], i: Any, k: Any, first: Any) -> tuple[Any, list[Any]]:
            return x(*_batch_index(x, outer), i, k), []

        def from_right(outer: Sequence[Any], k: Any, j: Any) -> Any:
            return y(*_batch_index(y, outer), *((j, k) if transposed else (k, j)))

        total = _product(
            tile, lead, (rows, columns, depth), (left[:-2], right[:-2]), from_left, from_right, str(x.dtype)
        )
        return _result([*lead, rows, columns], lambda *i: total(*i), offset, dtype)

    operands = [a, b, *([bias] if bias is not None else [])]
    return context.kernel("gemm", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def gemm_conv2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
) -> Expr:
    """A convolution of one group, channels last.

    Args:
        x: ``[N, H, W, C]``.
        weight: ``[O, C, KH, KW]``; held as ``[O, KH, KW, C]``.
        padding: ``[top, left, bottom, right]``.
        shape: of the result, ``[N, OH, OW, O]``.
    """
    _, height, width, outputs = shape
    _, in_height, in_width, channels = (*shape_of(x)[:3], known(shape_of(x)[3]))
    taps = list(weight.shape[2:])
    assert channels is not None
    rows = shape[0] * height * width
    depth = taps[0] * taps[1] * channels
    tile = _tile(context, x, [], rows, outputs, depth, depth, True, inner=channels, row_axes=3)
    point = taps == [1, 1] and list(strides) == [1, 1] and not any(padding)

    def define(data: te.Tensor, kernel: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def from_left(_: Sequence[Any], i: Any, k: Any, first: Any) -> tuple[Any, list[Any]]:
            n, within = tirx.floordiv(i, height * width), tirx.floormod(i, height * width)
            y, x = tirx.floordiv(within, width), tirx.floormod(within, width)
            if point:
                return data(n, y, x, k), []
            # The vector's first element says which tap it belongs to: channels are whole vectors.
            tap, channel = tirx.floordiv(first, channels), tirx.floormod(first, channels) + (k - first)
            row = y * strides[0] + tirx.floordiv(tap, taps[1]) * dilations[0] - padding[0]
            column = x * strides[1] + tirx.floormod(tap, taps[1]) * dilations[1] - padding[1]
            inside = [row >= 0, row < in_height, column >= 0, column < in_width]
            return data(n, row, column, channel), inside if any(padding) else []

        def from_right(_: Sequence[Any], k: Any, j: Any) -> Any:
            first = tirx.floordiv(k, tile.right_vector) * tile.right_vector
            tap, channel = tirx.floordiv(first, channels), tirx.floormod(first, channels) + (k - first)
            return kernel(j, tirx.floordiv(tap, taps[1]), tirx.floormod(tap, taps[1]), channel)

        total = _product(tile, [], (rows, outputs, depth), ([], []), from_left, from_right, str(data.dtype))

        def at(n: Any, y: Any, x: Any, o: Any) -> Any:
            return total((n * height + y) * width + x, o)

        return _result(shape, at, offset, context.dtype)

    kernels = context.constant(weight.permute(0, 2, 3, 1))
    operands = [x, kernels, *([context.constant(bias)] if bias is not None else [])]
    return context.kernel("gemm_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def _tile(
    context: Context,
    operand: Expr,
    lead: Sequence[Any],
    rows: Any,
    columns: Any,
    depth: Any,
    contiguous: Any,
    transposed: bool,
    *,
    inner: int | None = None,
    row_axes: int = 1,
) -> GemmTile:
    """The tile, with the widest loads that the contiguous axes are a multiple of."""
    assert context.gpu is not None
    dtype = dtype_of(operand)
    widest = _elements(dtype)
    batch: int | None = 1
    for size in lead:
        n = known(size)
        batch = None if n is None or batch is None else batch * n
    return choose_tile(
        batch, known(rows), known(columns), known(depth),
        tensor_cores=context.gpu.tensor_cores(dtype), transposed=transposed,
        left_vector=_vector(inner if inner is not None else known(depth), widest),
        right_vector=_vector(inner if inner is not None else known(contiguous), widest),
        row_axes=row_axes,
    )  # fmt: skip


def _elements(dtype: str) -> int:
    """Elements of a 128-bit load."""
    return _LOAD_BYTES * 8 // tvm.DataType(dtype).bits


def _vector(size: int | None, widest: int) -> int:
    if size is None:
        return 1
    return next(v for v in (widest, widest // 2, widest // 4, 1) if v and size % v == 0)


def _product(
    tile: GemmTile,
    lead: Sequence[Any],
    sizes: tuple[Any, Any, Any],
    leads: tuple[Sequence[Any], Sequence[Any]],
    from_left: Callable[..., Any],
    from_right: Callable[..., Any],
    dtype: str,
) -> te.Tensor:
    """Both operands in whole tiles, and their product ``[*lead, rows, columns]`` in whole tiles."""
    rows, columns, depth = sizes
    wide = accumulator_dtype(dtype)
    high, broad, deep = (
        _whole(n, t) for n, t in zip(sizes, (tile.rows, tile.columns, tile.depth), strict=True)
    )
    zero = s.constant(0, dtype)

    def left(*index: Any) -> Any:
        *outer, i, k = index
        first = _first(k, tile.left_vector)
        value, inside = from_left(outer, i, k, first)
        return _guarded(value, [*_below(i, rows, high), *_below(first, depth, deep), *inside], zero)

    def right(*index: Any) -> Any:
        *outer, p, q = index
        k, j = (q, p) if tile.transposed else (p, q)
        in_vector = _first(q, tile.right_vector)
        value = from_right(outer, k, j)
        tests = (
            [*_below(j, columns, broad), *_below(in_vector, depth, deep)]
            if tile.transposed
            else [*_below(k, depth, deep), *_below(in_vector, columns, broad)]
        )
        return _guarded(value, tests, zero)

    a = te.compute([*leads[0], high, deep], left, name="left")
    b = te.compute([*leads[1], *((broad, deep) if tile.transposed else (deep, broad))], right, name="right")
    k = te.reduce_axis((0, deep), "k")

    def term(*index: Any) -> Any:
        *outer, i, j = index
        x = a(*_batch_index(a, outer), i, k)
        y = b(*_batch_index(b, outer), *((j, k) if tile.transposed else (k, j)))
        return te.sum(s.cast(x, wide) * s.cast(y, wide), axis=k)

    return te.compute([*lead, high, broad], term, name="product", attrs={GEMM_TILE: tile.annotation()})


def _result(shape: Sequence[Any], at: Callable[..., Any], bias: Sequence[te.Tensor], dtype: str) -> te.Tensor:
    def element(*index: Any) -> Any:
        value = at(*index)
        if bias:
            value = value + s.cast(bias[0](index[-1]), str(value.ty.dtype))
        return s.cast(value, dtype)

    return te.compute(shape, element, name="result")


def _first(index: Any, vector: int) -> Any:
    """The first element of the vector that an index is in."""
    return index if vector == 1 else tirx.floordiv(index, vector) * vector


def _whole(size: Any, multiple: int) -> Any:
    n = known(size)
    if n is not None:
        return -(-n // multiple) * multiple
    return tirx.floordiv(size + (multiple - 1), multiple) * multiple


def _below(index: Any, size: Any, whole: Any) -> list[Any]:
    return [] if known(size) is not None and known(size) == known(whole) else [index < size]


def _guarded(value: Any, conditions: Sequence[Any], zero: Any) -> Any:
    return tirx.if_then_else(tirx.all(*conditions), value, zero) if conditions else value


def _batch_index(tensor: te.Tensor, outer: Sequence[Any]) -> list[Any]:
    sizes = tensor.shape[:-2]
    offset = len(outer) - len(sizes)
    return [0 if known(n) == 1 else outer[offset + i] for i, n in enumerate(sizes)]


def _broadcast(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    rank = max(len(a), len(b))
    one = tirx.IntImm("int64", 1)
    a, b = [one] * (rank - len(a)) + list(a), [one] * (rank - len(b)) + list(b)
    return [y if known(x) == 1 else x for x, y in zip(a, b, strict=True)]
