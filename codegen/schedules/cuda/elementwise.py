"""Kernels without a reduction: a thread computes neighbouring elements with 128-bit accesses."""

from __future__ import annotations

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, inline_producers, top_blocks
from graphopt.codegen.schedules.cuda.vectors import bind_elements, unroll_in_nvcc
from graphopt.codegen.schedules.cuda.wide_access import split_accesses, wide_access
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target

_THREADS = 256


def schedule_elementwise(schedule: s_tir.Schedule, block: Block) -> s_tir.Schedule:
    """Bind the loops of a block without reductions, whose last axis is the innermost of its output.

    Raises:
        NotApplicable: it is not, so that neighbouring threads would write apart.
    """
    loops = block.loops
    if not loops or block.last_written_axis() not in (len(loops) - 1, None):
        raise NotApplicable("the innermost loop is not along the output's last axis")
    access = wide_access(block)
    if access is None:
        bind_elements(schedule, loops, _THREADS)
        return schedule
    schedule, pieces = split_accesses(schedule, block, access)
    *vectors, _ = schedule.get_loops(schedule.get_sblock(pieces.store))
    bind_elements(schedule, vectors, _THREADS)
    for name in (*pieces.loads, pieces.store):
        schedule.vectorize(schedule.get_loops(schedule.get_sblock(name))[-1])
    unroll_in_nvcc(schedule, schedule.get_loops(schedule.get_sblock(pieces.compute))[-1])
    return schedule


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return bool(blocks) and all(b.is_spatial and b.axes for b in blocks)


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    for name in [block.name for block in inline_producers(schedule)]:
        schedule = schedule_elementwise(schedule, Block(schedule, schedule.get_sblock(name)))
    return schedule


ELEMENTWISE = ScheduleRule("elementwise", _applies, _apply)
