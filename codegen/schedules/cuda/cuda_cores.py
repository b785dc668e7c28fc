"""Products on CUDA cores, in the type of the operands: each thread computes a rectangle of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block
from graphopt.codegen.schedules.cuda.epilogue import Epilogue
from graphopt.codegen.schedules.cuda.staging import (
    bind_grid,
    copies_in_words,
    pad_rows,
    pipeline,
    stage_operand,
)
from graphopt.codegen.schedules.cuda.tiles import Capability, GemmTile
from graphopt.codegen.schedules.cuda.vectors import unroll_in_nvcc
from graphopt.codegen.targets import Target

# 16 bytes of float32.
_PAD = 4
# Steps of the depth that are unrolled, so that loads of neighbouring elements become one of 128 bits.
_DEPTH = 4


def multiply_on_cuda_cores(
    schedule: s_tir.Schedule, main: Block, epilogue: Epilogue, tile: GemmTile, target: Target
) -> None:
    """Arrange the product ``main``, its operands' stages and its epilogue."""
    *lead, i, j, k = main.loops
    rows, columns = tile.rows // tile.warp_rows, tile.columns // tile.warp_columns
    i0, it, i1 = schedule.split(i, factors=[None, tile.warp_rows, rows])
    j0, jt, j1 = schedule.split(j, factors=[None, tile.warp_columns, columns])
    k0, k1, k2 = schedule.split(k, factors=[None, tile.depth // _DEPTH, _DEPTH])
    schedule.reorder(*lead, i0, j0, it, jt, k0, k1, k2, i1, j1)
    bind_grid(schedule, i0, j0, lead)
    schedule.bind(it, "threadIdx.y")
    schedule.bind(jt, "threadIdx.x")
    threads = [("threadIdx.y", tile.warp_rows), ("threadIdx.x", tile.warp_columns)]
    stages = [Block(schedule, schedule.get_sblock(name)) for name in ("left", "right")]
    asynchronous = copies_in_words(stages, tile, Capability.of(target))
    for stage, vector in zip(stages, (tile.left_vector, tile.right_vector), strict=True):
        stage_operand(schedule, stage, k0, vector, threads)
    schedule.set_scope(main.handle, 0, "local")
    last = schedule.get_sblock(epilogue.name)
    schedule.reverse_compute_at(last, jt)
    vector = min(epilogue.vector(schedule), columns)
    if vector > 1:
        _, element = schedule.split(schedule.get_loops(last)[-1], factors=[None, vector])
        epilogue.lane = schedule.get(element).loop_var.name
        schedule.vectorize(element)
    unroll_in_nvcc(schedule, k2, i1, j1)
    unroll_in_nvcc(schedule, *schedule.get_loops(schedule.decompose_reduction(main.handle, k0))[-2:])
    left, right = stages
    schedule.transform_layout(left.handle, ("write", 0), _apart(tile.rows, rows))
    if tile.transposed:
        schedule.transform_layout(right.handle, ("write", 0), _apart(tile.columns, columns))
    else:
        schedule.transform_layout(right.handle, ("write", 0), _quads_apart(tile.columns, columns))
    for stage in stages:
        pad_rows(schedule, stage.handle, _PAD)
    pipeline(schedule, k0, tile, asynchronous, 1)


def _apart(size: int, each: int) -> Callable[..., list[Any]]:
    """A layout in which the rows of one thread lie apart, and equal rows of all threads together.

    A thread computes ``each`` neighbouring rows.  In their own order, the rows that threads read at a time
    would start in the same bank.
    """

    def layout(*index: Any) -> list[Any]:
        *outer, row, k = index
        block, within = tirx.floordiv(row, size), tirx.floormod(row, size)
        return [*outer, block, tirx.floormod(within, each), tirx.floordiv(within, each), k]

    return layout


def _quads_apart(size: int, each: int) -> Callable[..., list[Any]]:
    """The same for neighbouring columns in memory, four of which are read at once."""
    quad = min(4, each)

    def layout(*index: Any) -> list[Any]:
        *outer, k, column = index
        block, within = tirx.floordiv(column, size), tirx.floormod(column, size)
        group, element = tirx.floordiv(tirx.floormod(within, each), quad), tirx.floormod(within, quad)
        return [*outer, k, block, group, tirx.floordiv(within, each), element]

    return layout
