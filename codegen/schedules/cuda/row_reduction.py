"""Reductions along rows of memory: softmax, layer and RMS norm, products with a vector.

A warp has a row, or a thread block if rows are long.  Its threads read neighbouring vectors, sum up in
registers and then with one another by shuffles, so that a short row needs no barrier.  What follows a
reduction (another one, the elements of the result) runs in the same kernel.  (Harris, "Optimizing Parallel
Reduction in CUDA", NVIDIA, 2007; warp shuffles: CUDA C++ Programming Guide.)
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import (
    REDUCTION,
    SPATIAL,
    Block,
    attempt,
    inline_producers,
    mentions,
    static,
    top_blocks,
)
from graphopt.codegen.schedules.cuda.binding import why_not_lowered
from graphopt.codegen.schedules.cuda.vectors import bits_of, unroll_in_nvcc
from graphopt.codegen.schedules.extents import name_extents, restore_extents
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target

_WARP = 32
_BITS = 128
# From this many elements on, the warps of a whole block share a row.
_LONG = 2048
_BLOCK = 256
# Warps of a block that have a row each.
_ROWS = 4
# From this many rows on; fewer would leave multiprocessors without a block.
_MANY = 512


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    reductions = [b for b in blocks if b.is_reduction]
    return (
        bool(reductions)
        and all(b.kinds in (_row(b) + REDUCTION, _row(b)) and b.axes for b in blocks)
        and all(_reads_along(b) for b in reductions)
    )


def _row(block: Block) -> str:
    return SPATIAL * sum(a.kind == SPATIAL for a in block.axes)


def _reads_along(block: Block) -> bool:
    """Whether every operand that depends on the reduced axis has its elements side by side."""
    axis = block.axes[-1]
    reads = [block.indices(r) for r in block.stmt.reads if block.uses(r, axis)]
    along = [i[-1].same_as(axis.var) and not any(mentions(x, axis.var) for x in i[:-1]) for i in reads]
    return bool(along) and all(along)


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    inline_producers(schedule)
    longest = max(top_blocks(schedule), key=lambda b: len(b.axes))
    schedule, names = name_extents(schedule, longest)
    blocks = top_blocks(schedule)
    *_, last = blocks
    reductions = [b for b in blocks if b.is_reduction]
    if any(b.is_spatial for b in blocks[:-1]):
        raise NotApplicable("an elementwise block between the reductions that does not join them")
    if last.is_reduction:
        last = Block(schedule, schedule.cache_write(last.handle, 0, "local"))
        reductions = [b for b in top_blocks(schedule) if b.is_reduction]
    along_row = _goes_along(last, reductions)
    length = reductions[0].axes[-1].extent
    threads = _BLOCK if length is None or length >= _LONG else _WARP
    row = _bind_rows(schedule, last, last.loops[:-1] if along_row else last.loops, threads)
    for block in reversed(reductions):
        schedule.set_scope(block.handle, 0, "local")
        if not attempt(schedule.compute_at, block.handle, row):
            raise NotApplicable("a reduction that does not belong to one row")
    if along_row:
        _spread(schedule, last, threads)
    else:
        unit = schedule.add_unit_loop(last.handle)
        _, thread = schedule.split(unit, factors=[None, threads])
        schedule.bind(thread, "threadIdx.x")
    for block in reductions:
        _spread(schedule, block, threads)
    schedule = restore_extents(schedule, names)
    reason = why_not_lowered(schedule.mod["main"], target)
    if reason:
        raise NotApplicable(reason)
    return schedule


def _goes_along(last: Block, reductions: list[Block]) -> bool:
    """Whether the last block's innermost axis runs along a row; else it has one element a row."""
    axis = last.axes[-1]
    results = [b.stmt.writes[0].source for b in reductions]
    return not any(
        last.uses(read, axis) for read in last.stmt.reads if any(read.source.same_as(r) for r in results)
    )


def _bind_rows(schedule: s_tir.Schedule, last: Block, loops: list[Any], threads: int) -> Any:
    """Give rows to warps or blocks; the innermost loop over rows."""
    if not loops:
        loops = [schedule.add_unit_loop(schedule.get_loops(last.handle)[0])]
    rows = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
    count = static(schedule.get(rows).extent)
    if threads == _WARP and count is not None and count >= _MANY and count % _ROWS == 0:
        rows, warp = schedule.split(rows, factors=[None, _ROWS])
        schedule.bind(rows, "blockIdx.x")
        schedule.bind(warp, "threadIdx.y")
        return warp
    schedule.bind(rows, "blockIdx.x")
    return rows


def _spread(schedule: s_tir.Schedule, block: Block, threads: int) -> None:
    """Spread the last axis of a block over the threads of its row, a vector each at a time."""
    block.refresh()
    axis = block.axes[-1]
    loop = schedule.get_loops(block.handle)[-1]
    lanes = _lanes(block, axis.extent, threads)
    if lanes == 1:
        step, thread = schedule.split(loop, factors=[None, threads])
        _bind_thread(schedule, block, step, [], thread)
        return
    operands = [
        number
        for number, read in enumerate(block.stmt.reads)
        if block.uses(read, axis) and _wide(block, read, axis, lanes)
    ]
    step, thread, element = schedule.split(loop, factors=[None, threads, lanes])
    _bind_thread(schedule, block, step, [element], thread)
    for number in operands:
        copy = schedule.cache_read(block.handle, number, "local", [block.handle])
        schedule.compute_at(copy, step if block.is_reduction else thread)
        schedule.vectorize(schedule.get_loops(copy)[-1])
    if not block.is_reduction:
        written = schedule.cache_write(block.handle, 0, "local")
        schedule.reverse_compute_at(written, thread)
        schedule.vectorize(schedule.get_loops(written)[-1])
    unroll_in_nvcc(schedule, element)


def _bind_thread(schedule: s_tir.Schedule, block: Block, step: Any, inner: list[Any], thread: Any) -> None:
    # Threads that share a reduction have to be outside of what each of them sums up.
    if block.is_reduction:
        schedule.reorder(thread, step, *inner)
    schedule.bind(thread, "threadIdx.x")


def _lanes(block: Block, extent: int | None, threads: int) -> int:
    """Elements of a vector, such that the threads' vectors fill the row."""
    if extent is None:
        return 1
    axis = block.axes[-1]
    dtypes = [r.source.dtype for r in block.stmt.reads if block.uses(r, axis)]
    if not block.is_reduction:
        dtypes += [w.source.dtype for w in block.stmt.writes]
    widest = min(8, _BITS // max(map(bits_of, dtypes)))
    return next((n for n in (8, 4, 2) if n <= widest and extent % (n * threads) == 0), 1)


def _wide(block: Block, read: Any, axis: Any, lanes: int) -> bool:
    """Whether vectors of an operand start at multiples of their size."""
    row = static(read.source.shape[-1])
    return (
        str(read.source.dtype) != "bool"
        and block.indices(read)[-1].same_as(axis.var)
        and row is not None
        and row % lanes == 0
    )


ROW_REDUCTION = ScheduleRule("row-reduction", _applies, _apply)
