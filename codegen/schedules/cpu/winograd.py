"""Convolutions by Winograd's method: border, transform, products and transform back, a band of tiles at once.

The stages are those of :func:`graphopt.codegen.relax.winograd.winograd_conv2d`.  A band is some rows of
tiles.  Its pixels are transformed once, to stay in the second cache; then, panel by panel of weights, come
the products, in register tiles, and at once their way back to pixels, with bias, activation and residual.
Bands run in parallel; an image that is one band is transformed first, and its panels run in parallel.
"""

from __future__ import annotations

from math import gcd

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, loop_extent, top_blocks
from graphopt.codegen.schedules.cpu.packed import guard, inline_epilogue, tile_in_registers, vectorize_write
from graphopt.codegen.schedules.cpu.parallel import work_is_large
from graphopt.codegen.schedules.cpu.tiling import Registers, count
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target
from graphopt.codegen.toom_cook import WINOGRAD_RULE

WINOGRAD = "graphopt.winograd"
"""Annotation of the products' block: ``m``, rows of tiles in a band, and the products' register tile."""

PADDED, ROWS, TILES = "winograd_padded", "winograd_rows", "winograd_tiles"
PRODUCT, COLUMNS, WHOLE = "winograd_product", "winograd_columns", "winograd_whole"
"""Names of the stages, in their order: the image with a border, transformed along columns and along rows of
a tile; products; and transformed back."""

_STAGES = frozenset({PADDED, ROWS, TILES, PRODUCT, COLUMNS, WHOLE})


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return sum(WINOGRAD in dict(b.stmt.annotations) for b in blocks) == 1


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    stages = {b.name: b for b in top_blocks(schedule)}
    if not set(stages) >= _STAGES:
        raise NotApplicable("a stage is missing")
    whole = stages[WHOLE]
    annotation = dict(stages[PRODUCT].stmt.annotations)[WINOGRAD]
    m, band, rows, columns = (int(v) for v in annotation)
    lanes = Registers.of(target).lanes
    last = inline_epilogue(schedule, whole, _STAGES)
    batch, y, x, panel, column = whole.loops
    width = gcd(columns, lanes)
    bands, tile_y, y = schedule.split(y, factors=[None, band, m])
    tile_x, x = schedule.split(x, factors=[None, m])
    vector, lane = schedule.split(column, factors=[None, width])
    schedule.reorder(batch, bands, panel, tile_y, tile_x, vector, y, x, lane)
    schedule.reverse_compute_at(last.handle, vector, preserve_unit_loops=True)
    schedule.compute_at(stages[COLUMNS].handle, y, preserve_unit_loops=True)
    schedule.compute_at(stages[PRODUCT].handle, panel, preserve_unit_loops=True)
    at_once = loop_extent(schedule, bands) == 1
    if not at_once:
        schedule.compute_at(stages[TILES].handle, bands, preserve_unit_loops=True)
    _transform_pixels(schedule, stages, at_once, lanes)
    reduced = tile_in_registers(schedule, stages[PRODUCT], rows, width)
    _unrolled(schedule, stages[COLUMNS], 3, width)
    for loop in (y, x):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    schedule.set_scope(whole.handle, 0, "local")
    for loop in schedule.get_loops(last.handle)[-3:-1]:
        schedule.unroll(loop)
    lane_name = vectorize_write(schedule, last, columns, width)
    if work_is_large(count([axis.extent for axis in stages[PRODUCT].axes])):
        schedule.parallel(schedule.fuse(batch, bands, panel) if at_once else schedule.fuse(batch, bands))
    schedule.decompose_reduction(stages[PRODUCT].handle, reduced)
    return guard(schedule, last.name, {1: band * m, 2: m, -1: columns}, lane_name)


def _transform_pixels(schedule: s_tir.Schedule, stages: dict[str, Block], at_once: bool, lanes: int) -> None:
    """The image's pixels to transformed tiles; the whole image's where it is one band."""
    tiles, rows, padded = (stages[name].handle for name in (TILES, ROWS, PADDED))
    *outer, i, j, tile, channel = schedule.get_loops(tiles)
    width = gcd(loop_extent(schedule, channel) or 1, lanes)
    vectors, lane = schedule.split(channel, factors=[None, width])
    schedule.reorder(tile, vectors, i, j, lane)
    schedule.compute_at(rows, i, preserve_unit_loops=True)
    if not at_once:
        schedule.compute_at(padded, outer[-1], preserve_unit_loops=True)
    _unrolled(schedule, stages[ROWS], 2, width)
    schedule.vectorize(lane)
    schedule.unroll(i)
    schedule.unroll(j)
    *image, channel = schedule.get_loops(padded)
    _, lane = schedule.split(channel, factors=[None, width])
    schedule.vectorize(lane)
    if at_once and work_is_large(count([axis.extent for axis in stages[TILES].axes])):
        schedule.parallel(schedule.fuse(*outer, tile))
        schedule.parallel(schedule.fuse(*image[:2]))


def _unrolled(schedule: s_tir.Schedule, stage: Block, inner: int, width: int) -> None:
    """A stage in registers: its ``inner`` innermost loops, of which the last is made of vectors."""
    *outer, channel = schedule.get_loops(stage.handle)[-inner:]
    _, lane = schedule.split(channel, factors=[None, width])
    schedule.vectorize(lane)
    for loop in outer:
        schedule.unroll(loop)
    schedule.set_scope(stage.handle, 0, "local")


WINOGRAD_CONVOLUTION = ScheduleRule(WINOGRAD_RULE, _applies, _apply)
