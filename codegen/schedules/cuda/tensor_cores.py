"""Products on tensor cores: fragments of 16 x 16, sums in float32."""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from graphopt.codegen.schedules.blocks import Block
from graphopt.codegen.schedules.cuda.epilogue import Epilogue
from graphopt.codegen.schedules.cuda.intrinsics import (
    ACCUMULATOR,
    FRAGMENT_A,
    FRAGMENT_B,
    TILE,
    tensor_core,
)
from graphopt.codegen.schedules.cuda.staging import (
    SHARED,
    bind_grid,
    copies_in_words,
    pad_rows,
    pipeline,
    stage_operand,
)
from graphopt.codegen.schedules.cuda.tiles import Capability, GemmTile
from graphopt.codegen.schedules.cuda.vectors import unroll_in_nvcc
from graphopt.codegen.targets import Target

_WARP = 32
# 16 bytes of operands and of sums.
_PAD = 8
_ACCUMULATOR_PAD = 4


def multiply_on_tensor_cores(
    schedule: s_tir.Schedule, main: Block, epilogue: Epilogue, tile: GemmTile, target: Target
) -> None:
    """Arrange the product ``main``, its operands' stages and its epilogue."""
    dtype = str(main.stmt.reads[0].source.dtype)
    names = tensor_core(dtype, tile.transposed, SHARED)
    *lead, i, j, k = main.loops
    fragments_i = tile.rows // tile.warp_rows // TILE
    fragments_j = tile.columns // tile.warp_columns // TILE
    i0, iw, i1, i2 = schedule.split(i, factors=[None, tile.warp_rows, fragments_i, TILE])
    j0, jw, j1, j2 = schedule.split(j, factors=[None, tile.warp_columns, fragments_j, TILE])
    k0, k1, k2 = schedule.split(k, factors=[None, tile.depth // TILE, TILE])
    schedule.reorder(*lead, i0, j0, iw, jw, k0, k1, i1, j1, i2, j2, k2)
    warps = schedule.fuse(iw, jw)
    bind_grid(schedule, i0, j0, lead)
    schedule.bind(warps, "threadIdx.y")
    inner = main.handle
    outer = schedule.blockize(i2)

    left = schedule.cache_read(outer, 0, FRAGMENT_A)
    right = schedule.cache_read(outer, 1, FRAGMENT_B)
    schedule.compute_at(left, k1)
    schedule.compute_at(right, k1)
    threads = [("threadIdx.y", tile.warp_rows * tile.warp_columns), ("threadIdx.x", _WARP)]
    stages = [Block(schedule, schedule.get_sblock(name)) for name in ("left", "right")]
    asynchronous = copies_in_words(stages, tile, Capability.of(target))
    for stage, vector in zip(stages, (tile.left_vector, tile.right_vector), strict=True):
        stage_operand(schedule, stage, k0, vector, threads)
        pad_rows(schedule, stage.handle, _PAD)

    store = schedule.cache_write(outer, 0, ACCUMULATOR)
    schedule.set_scope(store, 0, SHARED)
    last = schedule.get_sblock(epilogue.name)
    schedule.reverse_compute_at(store, warps)
    schedule.reverse_compute_at(last, warps)
    vector = epilogue.vector(schedule)
    elements = schedule.fuse(*schedule.get_loops(last)[-2:])
    _, lane, element = schedule.split(elements, factors=[None, _WARP, vector])
    schedule.bind(lane, "threadIdx.x")
    if vector > 1:
        epilogue.lane = schedule.get(element).loop_var.name
        schedule.vectorize(element)

    init = schedule.decompose_reduction(outer, k0)
    unroll_in_nvcc(schedule, *schedule.get_loops(init)[-2:])
    unroll_in_nvcc(schedule, k1, i1, j1)
    schedule.tensorize(_tiled(schedule, left), names.load_a)
    schedule.tensorize(_tiled(schedule, right), names.load_b)
    written = schedule.blockize(_tiled(schedule, store))
    pad_rows(schedule, written, _ACCUMULATOR_PAD)
    schedule.tensorize(written, names.store)
    schedule.tensorize(schedule.get_loops(schedule.get_child_blocks(init)[0])[-2], names.fill)
    schedule.tensorize(schedule.get_loops(inner)[-3], names.multiply)
    pipeline(schedule, k0, tile, asynchronous, 1)


def _tiled(schedule: s_tir.Schedule, block: Any) -> Any:
    """Cut the last two loops of a copy into fragments; the loop over the rows of one."""
    i, j = schedule.get_loops(block)[-2:]
    i0, i1 = schedule.split(i, factors=[None, TILE])
    j0, j1 = schedule.split(j, factors=[None, TILE])
    schedule.reorder(i0, j0, i1, j1)
    unroll_in_nvcc(schedule, i0, j0)
    return i1
