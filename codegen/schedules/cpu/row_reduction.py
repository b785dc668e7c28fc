"""Reductions along contiguous memory: sums and means of rows, softmax, layer norm, dot products.

All blocks share their leading independent axes.  One loop runs over those, in parallel, and inside it
the blocks follow one another on a row that stays in cache.  A sum whose order LLVM must keep takes
one latency an element; it is therefore split into as many partial sums as a register has lanes
(``rfactor``: Suriana, Adams and Kamil, "Parallel associative reductions in Halide", CGO 2017), which
also rounds less.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import REDUCTION, SPATIAL, Block, attempt, loop_extent, top_blocks
from graphopt.codegen.schedules.cpu.guarded import mark_likely
from graphopt.codegen.schedules.cpu.injective import schedule_spatial
from graphopt.codegen.schedules.cpu.parallel import work_is_large
from graphopt.codegen.schedules.cpu.tiling import Registers, count
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.schedules.extents import name_extents, restore_extents
from graphopt.codegen.schedules.rule import TunableRule
from graphopt.codegen.targets import Target


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return any(b.is_reduction for b in blocks) and all(b.is_spatial or b.is_reduction for b in blocks)


def _apply(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
    schedule, names = name_extents(schedule, max(top_blocks(schedule), key=lambda b: len(b.axes)))
    spatial = {block.name for block in top_blocks(schedule) if block.is_spatial}
    _arrange(schedule, target, decisions)
    return restore_extents(mark_likely(schedule, spatial), names)


def _arrange(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> None:
    for block in top_blocks(schedule):
        if block.is_spatial and len(schedule.get_consumers(block.handle)) == 1:
            attempt(schedule.compute_inline, block.handle)
    blocks = top_blocks(schedule)
    work = [count([a.extent for a in b.axes]) for b in blocks]
    shared = _shared_axes(blocks)
    lanes = Registers.of(target).lanes
    for block in blocks:
        if block.is_reduction:
            _split_sum(schedule, block, lanes)
    outputs = schedule.get_output_blocks(schedule.get_sblock("root"))
    blocks = top_blocks(schedule)
    rows = schedule.get_loops(blocks[-1].handle)[:shared]
    if not rows or len(outputs) != 1:
        # Nothing to share a loop over (a result of one element has no loop): each block on its own.
        for block in blocks:
            if block.is_spatial:
                schedule_spatial(schedule, block.handle, target, decisions)
        return
    row = schedule.fuse(*rows) if len(rows) > 1 else rows[0]
    if decisions.choose("parallel", int(any(map(work_is_large, work))), (0, 1)):
        schedule.parallel(row)
    for block in reversed(blocks[:-1]):
        schedule.compute_at(block.handle, row, preserve_unit_loops=True)
    for handle in schedule.get_child_blocks(row):
        _vectorize_inside(schedule, handle, lanes, decisions)


def _shared_axes(blocks: list[Block]) -> int:
    """How many leading axes every block has: independent, and of the same extent.

    The second matters for reductions that keep their axis with extent one.
    """
    shared = 0
    for axes in zip(*(b.axes for b in blocks), strict=False):
        extents = [b.axis_extent(shared) for b in blocks]
        if any(a.kind != SPATIAL for a in axes):
            break
        if not all(tvm_ffi.structural_equal(e, extents[0]) for e in extents):
            break
        shared += 1
    return shared


def _split_sum(schedule: s_tir.Schedule, block: Block, lanes: int) -> None:
    """Turn a long reduction along the last loop into up to ``lanes`` partial ones, in one vector."""
    inner, result = block.axes[-1], block.stmt.writes
    if inner.kind != REDUCTION or inner.extent is None or inner.extent < 4 * lanes or len(result) != 1:
        return
    along = block.last_written_axis()
    if along is not None and block.axes[along].extent == lanes:
        return  # these are partial sums
    width = max(w for w in range(1, lanes + 1) if inner.extent % w == 0)
    if width < 4:
        return
    _, lane = schedule.split(block.loops[-1], factors=[None, width])
    attempt(schedule.rfactor, lane, len(result[0].source.shape))


def _vectorize_inside(schedule: s_tir.Schedule, handle: Any, lanes: int, decisions: Decisions) -> None:
    """Vectorise a block along its last independent axis, below the loop that all blocks share."""
    block = Block(schedule, handle)
    axes = block.axes
    loops = schedule.get_loops(handle)[1:]
    if block.is_reduction and len(loops) == len(axes):
        _vectorize_partial(schedule, block, loops, lanes)
        return
    if not loops or axes[-1].kind == REDUCTION:
        return
    inner = loops[-1]
    extent = loop_extent(schedule, inner)
    if extent is None or extent > 4 * lanes:
        options = [
            w for w in (lanes // 2, 2 * lanes) if extent is not None and extent % lanes == extent % w == 0
        ]
        width = decisions.choose(f"{block.name}.vector", lanes, options)
        _, inner = schedule.split(inner, factors=[None, width])
    schedule.vectorize(inner)


def _vectorize_partial(schedule: s_tir.Schedule, block: Block, loops: list[Any], lanes: int) -> None:
    """Partial sums of a row in one register: a step of the reduction adds a vector to it."""
    position = block.last_written_axis()
    if position is None or not 1 < (loop_extent(schedule, loops[position]) or 0) <= lanes:
        return
    lane = loops[position]
    others = [loop for loop in loops if loop is not lane]
    schedule.reorder(*others, lane)
    first = next(loop for loop, axis in zip(loops, block.axes, strict=True) if axis.kind == REDUCTION)
    schedule.vectorize(lane)
    schedule.decompose_reduction(block.handle, first)


ROW_REDUCTION = TunableRule("row-reduction", _applies, _apply)
