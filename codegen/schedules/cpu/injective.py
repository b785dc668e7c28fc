"""Functions without reductions: every output element is computed on its own."""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, collect, inline_producers, loop_extent, top_blocks
from graphopt.codegen.schedules.cpu.guarded import mark_likely
from graphopt.codegen.schedules.cpu.parallel import work_is_large
from graphopt.codegen.schedules.cpu.tiling import Registers, count, vector_width
from graphopt.codegen.schedules.cpu.transposed import schedule_transposed
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.schedules.rule import TunableRule
from graphopt.codegen.targets import Target

# Vectors in a loop that is long enough for a remainder of single elements not to matter.
_LONG = 64


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    schedule = s_tir.Schedule(func)
    blocks = top_blocks(schedule)
    return bool(blocks) and all(b.is_spatial for b in blocks)


def _apply(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
    blocks = inline_producers(schedule)
    for block in blocks:
        schedule_spatial(schedule, block.handle, target, decisions)
    return mark_likely(schedule, {b.name for b in blocks})


def schedule_spatial(schedule: s_tir.Schedule, handle: Any, target: Target, decisions: Decisions) -> None:
    """Vectorise the innermost loop of a spatial block and make the outer ones parallel.

    The innermost axis keeps a loop of its own, so that its accesses stay contiguous where they are;
    it is fused with its neighbours only while it is too short to fill a vector.
    """
    block = Block(schedule, handle)
    if not schedule.get_loops(handle):
        return  # a scalar
    loops = block.loops
    work = count([a.extent for a in block.axes])
    registers = Registers.of(target)
    if not isinstance(block.stmt.body, tirx.BufferStore):
        # A loop nest of its own (a sort, a scan) for each row: rows run in parallel, as they are.
        schedule.parallel(schedule.fuse(*loops) if len(loops) > 1 else loops[0])
        return
    if schedule_transposed(schedule, block, target, decisions):
        return
    computed = not (linear := _is_linear(block)) and bool(collect(block.axis_extent(-1), tirx.Mul))
    if linear:
        loops = [schedule.fuse(*loops)] if len(loops) > 1 else loops
    inner = loops.pop()
    while loops and (extent := loop_extent(schedule, inner)) is not None and extent < registers.lanes:
        inner = schedule.fuse(loops.pop(), inner)
    outer, vectorized = schedule.fuse(*loops) if len(loops) > 1 else loops[0] if loops else None, True
    extent = loop_extent(schedule, inner)
    if extent is None and computed:
        # Of 2 n + 1 TVM parts a remainder whose length no vector has: LLVM vectorises the loop as it is.
        outer, vectorized = outer if outer is not None else inner, False
    elif extent is None or extent > 4 * registers.lanes:
        width = vector_width(extent, registers)
        if extent is not None and extent >= _LONG * registers.lanes:
            width = max(width, registers.lanes)  # whole registers, whatever is left over
        wider = [registers.lanes // 2, registers.lanes, 2 * registers.lanes, 4 * registers.lanes]
        options = [w for w in wider if w > 1 and extent is not None and extent % width == extent % w == 0]
        width = decisions.choose(f"{block.name}.vector", width, options)
        rest, inner = schedule.split(inner, factors=[None, width])
        rows = loop_extent(schedule, outer) if outer is not None else 1
        if outer is None:
            outer = rest
        elif extent is not None and extent % width == 0 and rows is not None and rows < 4 * target.cores:
            # With few rows the columns are shared among the cores as well.  A loop that needs a
            # remainder stays on its own: only then can it be partitioned.
            outer = schedule.fuse(outer, rest)
    if vectorized:
        schedule.vectorize(inner)
    if outer is None:
        return
    if decisions.choose(f"{block.name}.parallel", int(work_is_large(work)), (0, 1)):
        schedule.parallel(outer)


def _is_linear(block: Block) -> bool:
    """Whether every access runs through memory in the order of the loops: one long loop will do."""
    order = [a.var for a in block.axes]
    for region in [*block.stmt.reads, *block.stmt.writes]:
        indices = block.indices(region)
        if len(indices) != len(order) or not all(i.same_as(v) for i, v in zip(indices, order, strict=True)):
            return False
    return True


INJECTIVE = TunableRule("injective", _applies, _apply)
