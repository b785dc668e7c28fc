"""One thread an output element: always right, rarely fast."""

from __future__ import annotations

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import SPATIAL, inline_producers, top_blocks
from graphopt.codegen.schedules.rule import ScheduleRule
from graphopt.codegen.targets import Target

_THREADS = 256


def _apply(schedule: s_tir.Schedule, target: Target) -> None:
    inline_producers(schedule)
    for block in top_blocks(schedule):
        scalar = not schedule.get_loops(block.handle)
        axes = [] if scalar else list(zip(block.loops, block.axes, strict=True))
        independent = [x for x, a in axes if a.kind == SPATIAL]
        others = [x for x, a in axes if a.kind != SPATIAL]
        if independent and others:
            schedule.reorder(*independent, *others)
        if not independent:
            # A reduction to a single element runs in one thread.
            outermost = others[0] if others else block.handle
            independent = [schedule.add_unit_loop(outermost)]
        fused = schedule.fuse(*independent) if len(independent) > 1 else independent[0]
        grid, thread = schedule.split(fused, factors=[None, _THREADS])
        schedule.bind(grid, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    return bool(top_blocks(s_tir.Schedule(func)))


BIND_THREADS = ScheduleRule("bind-threads", _applies, _apply)
