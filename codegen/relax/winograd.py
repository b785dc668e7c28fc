"""3x3 convolutions by Winograd's method: fewer multiplications, on tiles of the image.

A tile of ``m x m`` pixels of the result needs ``(m + 2)²`` multiplications a channel and output instead of
``9 m²``: 2.25 times fewer for ``F(2x2, 3x3)``, 4 times for ``F(4x4, 3x3)`` (Lavin and Gray, CVPR 2016,
arXiv:1509.09308).  Weights are transformed here, in float64, and lie in the artifact.  The stages (border,
transformed tiles, one product for each place in a tile, transformed back) are arranged by
:mod:`graphopt.codegen.schedules.cpu.winograd` so that what lies between them stays in cache.

Two things differ from a direct sum.  Rounding errors are larger, about 1.7 times for ``F(2x2)`` and 5 times
for ``F(4x4)``, relative to the largest pixel of the tile; and an infinity or NaN in the image reaches all
pixels of the tiles that read it, as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.bilinear import row_of, stage
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, shape_of
from graphopt.codegen.relax.symbols import int64, known
from graphopt.codegen.schedules.cpu.winograd import (
    COLUMNS,
    PADDED,
    PRODUCT,
    ROWS,
    TILES,
    WHOLE,
    WINOGRAD,
)
from graphopt.codegen.schedules.cpu.winograd_plan import Convolution, WinogradPlan, plan_winograd
from graphopt.codegen.toom_cook import TAPS, Matrix, transforms


def winograd_plan(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
) -> WinogradPlan | None:
    """How to run a convolution of one group by Winograd's method; None where it cannot, or does not pay.

    Args:
        x: ``[N, H, W, C]``.
        weight: ``[O, C, KH, KW]``.
        shape: of the result, ``[N, OH, OW, O]``.  A symbolic height or width is computed directly.
    """
    if not context.fast_algorithms or context.registers is None:
        return None
    height, width = known(shape[1]), known(shape[2])
    plain = tuple(weight.shape[2:]) == (TAPS, TAPS) and list(strides) == list(dilations) == [1, 1]
    if not plain or height is None or width is None or None in map(known, shape_of(x)[1:]):
        return None
    convolution = Convolution(weight.shape[1], weight.shape[0], height, width)
    return plan_winograd(convolution, context.registers, context.cores)


def winograd_conv2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    padding: Sequence[int],
    shape: Sequence[Any],
    plan: WinogradPlan,
) -> Expr:
    """A 3x3 convolution of stride 1 and one group, channels last.

    Args:
        x: ``[N, H, W, C]``, float32.
        weight: ``[O, C, 3, 3]``.
        padding: ``[top, left, bottom, right]``.
        shape: of the result, ``[N, OH, OW, O]``.
        plan: of :func:`winograd_plan`.
    """
    m = plan.outputs
    size = m + TAPS - 1
    matrices = transforms(m)
    batch, height, width, outputs = shape
    channels, columns = weight.shape[1], plan.tile.columns
    panels = -(-int(outputs) // columns)
    down, across = plan.bands * plan.band, -(-int(width) // m)
    tiles_of_band = plan.band * across
    top, left = padding[:2]
    image_height, image_width = shape_of(x)[1:3]

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def bordered(n: Any, y: Any, x: Any, c: Any) -> Any:
            rows = [*([y >= top] if top else []), y < image_height + top]
            sides = [*([x >= left] if left else []), x < image_width + left]
            inside = tirx.all(*rows, *map(tirx.likely, sides))
            return tirx.if_then_else(inside, data(n, y - top, x - left, c), s.constant(0, "float32"))

        padded = stage([batch, down * m + 2, across * m + 2, channels], bordered, PADDED)

        def pixel(n: Any, band: Any, tile: Any, a: int, b: Any, c: Any) -> Any:
            row, column = band * plan.band + tile // across, tile % across
            return padded(n, row * m + a, column * m + b, c)

        rows = stage(
            [batch, plan.bands, tiles_of_band, size, size, channels],
            lambda n, band, t, i, b, c: row_of(matrices.input, i, lambda a: pixel(n, band, t, a, b, c)),
            ROWS,
        )
        tiles = stage(
            [batch, plan.bands, size, size, tiles_of_band, channels],
            lambda n, band, i, j, t, c: row_of(matrices.input, j, lambda b: rows(n, band, t, i, b, c)),
            TILES,
        )
        depth = te.reduce_axis((0, int64(channels)), "k")
        product = stage(
            [batch, plan.bands, panels, size, size, tiles_of_band, columns],
            lambda n, band, p, i, j, t, c: te.sum(
                tiles(n, band, i, j, t, depth) * packed(p, i, j, depth, c), axis=depth
            ),
            PRODUCT,
            {WINOGRAD: [m, plan.band, plan.tile.rows, columns]},
        )
        sums = stage(
            [batch, plan.bands, panels, tiles_of_band, m, size, columns],
            lambda n, band, p, t, y, j, c: row_of(
                matrices.output, y, lambda i: product(n, band, p, i, j, t, c)
            ),
            COLUMNS,
        )

        def whole_tiles(n: Any, y: Any, x: Any, p: Any, c: Any) -> Any:
            row = y // m
            tile = row % plan.band * across + x // m
            return row_of(matrices.output, x % m, lambda j: sums(n, row // plan.band, p, tile, y % m, j, c))

        whole = stage([batch, down * m, across * m, panels, columns], whole_tiles, WHOLE)

        def result(n: Any, y: Any, x: Any, o: Any) -> Any:
            value = whole(n, y, x, o // columns, o % columns)
            return value + offset[0](o) if offset else value

        return stage([batch, height, width, outputs], result, "result")

    operands = [x, context.constant(_panels(weight, matrices.weight, panels, columns))]
    if bias is not None:
        operands.append(context.constant(bias.detach()))
    return context.kernel("winograd_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def _panels(weight: torch.Tensor, matrix: Matrix, panels: int, columns: int) -> torch.Tensor:
    """``[O, C, 3, 3]`` to ``[panels, m + 2, m + 2, C, columns]``, transformed and filled up with zeros."""
    outputs, channels = weight.shape[:2]
    g = torch.tensor([[float(v) for v in row] for row in matrix], dtype=torch.float64)
    moved = torch.einsum("ia,ocab,jb->ijco", g, weight.detach().double(), g).to(weight.dtype)
    wide = torch.nn.functional.pad(moved, (0, panels * columns - outputs))
    size = len(matrix)
    return wide.reshape(size, size, channels, panels, columns).permute(3, 0, 1, 2, 4).contiguous()
