"""Kernels without a reduction: a thread computes neighbouring elements with 128-bit accesses."""

from __future__ import annotations

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, inline_producers, top_blocks
from graphopt.codegen.schedules.cuda.vectors import bind_elements, lanes_for
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target

_THREADS = 256


def schedule_elementwise(schedule: s_tir.Schedule, block: Block) -> None:
    """Bind the loops of a block without reductions, whose last axis is the innermost of its output.

    Raises:
        NotApplicable: it is not, so that neighbouring threads would write apart.
    """
    loops = block.loops
    if not loops or block.last_written_axis() not in (len(loops) - 1, None):
        raise NotApplicable("the innermost loop is not along the output's last axis")
    lanes = lanes_for(block, block.axes[-1].extent)
    *outer, last = loops
    last, lane = schedule.split(last, factors=[None, lanes])
    bind_elements(schedule, [*outer, last], _THREADS)
    if lanes > 1:
        schedule.vectorize(lane)


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return bool(blocks) and all(b.is_spatial and b.axes for b in blocks)


def _apply(schedule: s_tir.Schedule, target: Target) -> None:
    for block in inline_producers(schedule):
        schedule_elementwise(schedule, block)


ELEMENTWISE = ScheduleRule("elementwise", _applies, _apply)
