"""Kernels on weights that are packed at compile time: products, and convolutions with channels last.

Weights of a product ``[K, N]`` become panels ``[N / columns, K, columns]``: what a tile of the result
reads of them is one run of memory.  The tile is chosen here, with the weights' layout, and
:mod:`graphopt.codegen.schedules.cpu.packed` arranges the loops for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, shape_of
from graphopt.codegen.relax.symbols import known
from graphopt.codegen.schedules.cpu.borders import WINDOW_ROWS
from graphopt.codegen.schedules.cpu.packed import DOT_GROUP, PACKED_TILE, PADDED, PADDED_PLANES
from graphopt.codegen.schedules.cpu.tiling import PackedTile, register_rows, vector_width


def packed_matmul(context: Context, x: Expr, weight: torch.Tensor, bias: torch.Tensor | None) -> Expr:
    """``x @ weight.T + bias``.

    Args:
        x: ``[..., rows, K]``, float32.
        weight: ``[N, K]``, float32.
        bias: ``[N]`` or None.
    """
    assert context.registers is not None
    *lead, rows, depth = shape_of(x)
    outputs = weight.shape[0]
    tile = PackedTile.of(context.rows_at_once(rows), outputs, context.registers, int(depth))
    panels = _panels(weight.detach().T, tile.columns)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")

        def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
            return te.sum(data(*outer, row, k) * packed(panel, k, column), axis=k)

        return _tiled(lead, rows, outputs, tile, term, offset, context.dtype, columns_inside=False)

    operands = [x, context.constant(panels), *_bias(context, bias)]
    return context.kernel("packed_matmul", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def packed_conv2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
    *,
    planes: bool = False,
    groups: int = 1,
) -> Expr:
    """A convolution, channels last.

    Args:
        x: ``[N, H, W, C]``, float32.
        weight: ``[O, C / groups, KH, KW]``.
        padding: ``[top, left, bottom, right]``.
        shape: of the result, ``[N, OH, OW, O]``.
        planes: whether ``x`` is ``[N, C, H, W]``: pictures of a few channels are read as they come.
        groups: of channels; those of one must fill whole panels (:func:`fits_groups`).
    """
    assert context.registers is not None
    batch, height, width, outputs = shape
    channels, taps = weight.shape[1], weight.shape[2:]
    stride = strides[1] * (1 if planes else channels)
    # Of pictures, the taps of a row are the innermost loop.
    taps_share = planes and taps[1] > strides[1]
    tile = PackedTile.of(
        context.rows_at_once(width), int(outputs), context.registers, stride, taps_share=taps_share
    )
    if groups > 1:
        columns = _group_columns(int(outputs) // groups, context)
        tile = PackedTile(register_rows(context.rows_at_once(width), columns, context.registers), columns)
    panels_of_group = int(outputs) // groups // tile.columns if groups > 1 else 1
    order = [channels, *taps] if planes else [*taps, channels]
    matrix = weight.detach().permute((1, 2, 3, 0) if planes else (2, 3, 1, 0)).reshape(-1, weight.shape[0])
    packed_weight = _panels(matrix, tile.columns)
    packed_weight = packed_weight.reshape(packed_weight.shape[0], *order, tile.columns)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        data = _padded(data, padding, planes)
        kh, kw = (te.reduce_axis((0, n), f"k{i}") for i, n in enumerate(taps))
        channel = te.reduce_axis((0, channels), "c")
        axes = [channel, kh, kw] if planes else [kh, kw, channel]

        def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
            n, y, x = _window(outer, row, kh, kw, strides, dilations)
            at = channel if groups == 1 else panel // panels_of_group * channels + channel
            pixel = data(n, at, y, x) if planes else data(n, y, x, at)
            return te.sum(pixel * packed(panel, *axes, column), axis=axes)

        return _tiled(
            [batch, height], width, int(outputs), tile, term, offset, context.dtype, columns_inside=False
        )

    operands = [x, context.constant(packed_weight), *_bias(context, bias)]
    return context.kernel("packed_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def packed_windows(context: Context, x: Expr, weight: torch.Tensor, bias: torch.Tensor | None) -> Expr:
    """A transposed convolution whose windows do not overlap: each pixel becomes a window of pixels.

    Args:
        x: ``[N, H, W, C]``, float32.
        weight: ``[C, O, KH, KW]``.
        bias: ``[O]`` or None.

    Returns:
        ``[N, H, KH, W, KW, O]``, whose pixels lie in memory as those of ``[N, H KH, W KW, O]``.
    """
    assert context.registers is not None
    batch, height, width, _ = shape_of(x)
    channels, outputs, *taps = weight.shape
    tile = PackedTile.of(context.rows_at_once(width), outputs, context.registers, channels)
    matrix = weight.detach().permute(2, 3, 0, 1).reshape(-1, outputs)
    packed_weight = _panels(matrix, tile.columns)
    packed_weight = packed_weight.reshape(packed_weight.shape[0], *taps, channels, tile.columns)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        channel = te.reduce_axis((0, channels), "c")

        def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
            n, y, kh, kw = outer
            return te.sum(data(n, y, row, channel) * packed(panel, kh, kw, channel, column), axis=channel)

        total = whole_tiles([batch, height, *taps], width, outputs, tile, term, row_axis=-3)

        def result(n: Any, y: Any, kh: Any, row: Any, kw: Any, column: Any) -> Any:
            value = total(n, y, kh, kw, row, column // tile.columns, column % tile.columns)
            return value + offset[0](column) if offset else value

        return te.compute([batch, height, taps[0], width, taps[1], outputs], result, name="result")

    operands = [x, context.constant(packed_weight), *_bias(context, bias)]
    return context.kernel("packed_windows", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def depthwise_conv2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
    *,
    read: Callable[[Any], Any] = lambda pixel: pixel,
) -> Expr:
    """A convolution in which each channel has one filter of its own, channels last.

    Args:
        x: ``[N, H, W, C]``.
        weight: ``[C, 1, KH, KW]``.
        read: what a pixel is multiplied as; the border is zero then.
        padding, shape: as of :func:`packed_conv2d`.
    """
    batch, height, width, outputs = shape
    taps = weight.shape[2:]
    tile, panels = _depthwise_tile(width, int(outputs), context)
    columns = tile.columns
    filters = weight.detach().reshape(panels, columns, *taps).permute(2, 3, 0, 1)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        kh, kw = (te.reduce_axis((0, n), f"k{i}") for i, n in enumerate(taps))

        def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
            pixel = _window(outer, row, kh, kw, strides, dilations)
            value = _bordered(data, padding, *pixel, panel * columns + column, read)
            return te.sum(value * s.cast(packed(kh, kw, panel, column), str(value.ty.dtype)), axis=[kh, kw])

        window = [strides[0], dilations[0], padding[0]]
        return _tiled(
            [batch, height], width, int(outputs), tile, term, offset, context.dtype, columns_inside=True,
            window=window,
        )  # fmt: skip

    operands = [x, context.constant(filters.contiguous()), *_bias(context, bias)]
    return context.kernel("depthwise_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def window_sums(
    context: Context,
    x: Expr,
    taps: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    shape: Sequence[Any],
    divide: Callable[[Any, Any, Any], Any],
) -> Expr:
    """Sums over windows of an image, channels last, each divided by a number of its own: average pooling.

    Args:
        x: ``[N, H, W, C]``, float32.
        padding: ``[top, left, bottom, right]``, of zeros; windows may reach beyond it by what ``bottom`` and
            ``right`` count in.
        shape: of the result, ``[N, OH, OW, C]``.
        divide: of a sum, and row and column of its window, what the result is.
    """
    batch, height, width, channels = shape
    tile, _ = _depthwise_tile(width, int(channels), context)

    def define(data: te.Tensor) -> te.Tensor:
        kh, kw = (te.reduce_axis((0, n), f"k{i}") for i, n in enumerate(taps))

        def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
            pixel = _window(outer, row, kh, kw, strides, (1, 1))
            column = panel * tile.columns + column
            return te.sum(_bordered(data, padding, *pixel, column, lambda value: value), axis=[kh, kw])

        total = whole_tiles(
            [batch, height],
            width,
            int(channels),
            tile,
            term,
            columns_inside=True,
            window=[strides[0], 1, padding[0]],
        )

        def result(n: Any, y: Any, x: Any, c: Any) -> Any:
            return divide(total(n, y, x, c // tile.columns, c % tile.columns), y, x)

        return te.compute([batch, height, width, channels], result, name="result")

    return context.kernel("window_sums", [x], define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def _depthwise_tile(width: Any, channels: int, context: Context) -> tuple[PackedTile, int]:
    """The tile of windows that do not mix channels, and how many tiles the channels are."""
    columns = _channels_at_once(channels, context)
    size = context.rows_at_once(width)
    # At most seven, and as equal as they can be.
    rows = 6 if size is None else -(-size // -(-size // 7))
    return PackedTile(rows, columns), channels // columns


def divides(outputs: int, context: Context) -> bool:
    """Whether :func:`depthwise_conv2d` can cut this number of channels into whole vectors."""
    return outputs % _channels_at_once(outputs, context) == 0


def fits_groups(outputs: int, context: Context) -> bool:
    """Whether :func:`packed_conv2d` can cut a group of so many outputs into whole panels."""
    return outputs >= 4 and outputs % _group_columns(outputs, context) == 0


def _group_columns(outputs: int, context: Context) -> int:
    """Columns of a panel: two registers where they divide a group."""
    assert context.registers is not None
    wide = 2 * context.registers.lanes
    return wide if outputs % wide == 0 else _channels_at_once(outputs, context)


def _channels_at_once(outputs: int, context: Context) -> int:
    """A register's lanes, half or a quarter of them; only where none divides the channels, another number."""
    assert context.registers is not None
    lanes = context.registers.lanes
    shared = gcd(outputs, lanes)
    return shared if 4 * shared >= lanes else min(vector_width(outputs, context.registers), lanes)


def _tiled(
    lead: Sequence[Any],
    rows: Any,
    outputs: int,
    tile: PackedTile,
    term: Callable[..., Any],
    bias: Sequence[te.Tensor],
    dtype: str,
    *,
    columns_inside: bool,
    window: Sequence[int] | None = None,
) -> te.Tensor:
    """The product ``[*lead, rows, outputs]``, taken from whole tiles and rounded once, to ``dtype``."""
    total = whole_tiles(lead, rows, outputs, tile, term, columns_inside=columns_inside, window=window)
    return finished(total, lead, rows, outputs, tile, bias, dtype)


def finished(
    total: te.Tensor,
    lead: Sequence[Any],
    rows: Any,
    outputs: int,
    tile: PackedTile,
    bias: Sequence[te.Tensor],
    dtype: str,
) -> te.Tensor:
    """``[*lead, rows, outputs]`` of ``dtype``, from sums in whole tiles and a bias of their type."""

    def result(*index: Any) -> Any:
        *outer, row, column = index
        value = total(*outer, row, column // tile.columns, column % tile.columns)
        return s.cast(value + s.cast(bias[0](column), str(value.ty.dtype)) if bias else value, dtype)

    return te.compute([*lead, rows, outputs], result, name="result")


def whole_tiles(
    lead: Sequence[Any],
    rows: Any,
    outputs: int,
    tile: PackedTile,
    term: Callable[..., Any],
    *,
    columns_inside: bool = False,
    row_axis: int = -2,
    window: Sequence[int] | None = None,
    group: int = 1,
) -> te.Tensor:
    """``[*lead, whole rows, panels, columns]``, of which ``term`` gives each sum.

    Args:
        row_axis: where rows will stand in the result.
        group: products that one instruction adds to a sum, along the last reduced axis.
        window: for :data:`WINDOW_ROWS`, if rows are pixels of an image without a border.
    """
    height, width = tile.rows, tile.columns
    size = known(rows)
    whole = rows if size is not None and size % height == 0 else (rows + height - 1) // height * height
    panels = -(-outputs // width)

    def tiles(*index: Any) -> Any:
        *outer, row, panel, column = index
        # Rows beyond the end repeat the last one; windows read zero there, and so need no other row.
        repeats = whole is not rows and window is None
        return term(outer, tirx.min(row, rows - 1) if repeats else row, panel, column)

    attributes: dict[str, Any] = {PACKED_TILE: [height, width, int(columns_inside), row_axis]}
    if window is not None:
        attributes[WINDOW_ROWS] = list(window)
    if group > 1:
        attributes[DOT_GROUP] = group
    return te.compute([*lead, whole, panels, width], tiles, name="packed_product", attrs=attributes)


def _window(
    outer: Sequence[Any], x: Any, kh: Any, kw: Any, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[Any, Any, Any]:
    """Batch, row and column of the pixel that tap (kh, kw) of the window at ``outer``, ``x`` reads."""
    n, y = outer
    return n, y * strides[0] + kh * dilations[0], x * strides[1] + kw * dilations[1]


def _bordered(
    data: te.Tensor, padding: Sequence[int], n: Any, y: Any, x: Any, c: Any, read: Callable[[Any], Any]
) -> Any:
    """A pixel of the image with a border of zeros, which is not laid out in memory.

    Columns to the right of the border are zero too: the last tile may reach there.
    """
    top, left, bottom, _ = padding
    height, width = data.shape[1:3]
    tests = [
        *([y >= top] if top else []),
        *([y < height + top] if bottom else []),
        *([x >= left] if left else []),
        x < width + left,
    ]
    pixel = read(data(n, y - top, x - left, c))
    return tirx.if_then_else(tirx.all(*tests), pixel, s.constant(0, str(pixel.ty.dtype)))


def _padded(data: te.Tensor, padding: Sequence[int], planes: bool) -> te.Tensor:
    """The image with a border of zeros, as ``planes`` (``[N, C, H, W]``) or with its channels last."""
    top, left, bottom, right = padding
    if not any(padding):
        return data
    y_axis = 2 if planes else 1
    height, width = data.shape[y_axis : y_axis + 2]

    def element(*index: Any) -> Any:
        y, x = index[y_axis], index[y_axis + 1]
        # Columns are tested at the two ends of a row only: loop partitioning separates what is likely.
        inside = tirx.all(y >= top, y < height + top, tirx.likely(x >= left), tirx.likely(x < width + left))
        pixel = (*index[:y_axis], y - top, x - left, *index[y_axis + 2 :])
        return tirx.if_then_else(inside, data(*pixel), s.constant(0, str(data.dtype)))

    shape = list(data.shape)
    shape[y_axis], shape[y_axis + 1] = height + top + bottom, width + left + right
    return te.compute(shape, element, name=PADDED_PLANES if planes else PADDED)


def _panels(matrix: torch.Tensor, columns: int) -> torch.Tensor:
    """``[K, N]`` to ``[⌈N / columns⌉, K, columns]``, filled up with zeros."""
    depth, outputs = matrix.shape
    count = -(-outputs // columns)
    wide = torch.nn.functional.pad(matrix, (0, count * columns - outputs))
    return wide.reshape(depth, count, columns).permute(1, 0, 2).contiguous()


def _bias(context: Context, bias: torch.Tensor | None) -> list[Expr]:
    return [] if bias is None else [context.constant(bias.detach())]
