"""Short reductions over windows: depthwise convolutions, pooling.

A thread computes neighbouring channels of one output, sums in registers, and the elementwise operators that
follow happen on them before they are written.
"""

from __future__ import annotations

from math import prod

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import REDUCTION, Block, attempt, mentions, top_blocks
from graphopt.codegen.schedules.cuda.vectors import bind_elements, lanes_for, unroll_in_nvcc
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target

_THREADS = 128
# Longer reductions are worth a thread for each part of them.
_LONGEST = 128


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    reductions = [b for b in blocks if b.is_reduction]
    if len(reductions) != 1 or not all(b.is_spatial or b.is_reduction for b in blocks):
        return False
    (main,) = reductions
    sizes = [a.extent for a in main.axes if a.kind == REDUCTION]
    spatial = [a for a in main.axes if a.kind != REDUCTION]
    known = [s for s in sizes if s is not None]
    if len(known) != len(sizes) or prod(known) > _LONGEST or not spatial:
        return False
    place = main.last_written_axis()
    if place is None or main.axes[place] is not spatial[-1]:
        return False
    # Neighbouring threads shall read neighbours: a row that is reduced has a rule of its own.
    return any(r.region and mentions(r.region[-1].min, spatial[-1].var) for r in main.stmt.reads)


def _apply(schedule: s_tir.Schedule, target: Target) -> None:
    (main,) = [b for b in top_blocks(schedule) if b.is_reduction]
    for block in top_blocks(schedule):
        if block.is_spatial and schedule.get_consumers(block.handle):
            attempt(schedule.compute_inline, block.handle)
    main.refresh()
    others = [b for b in top_blocks(schedule) if b.name != main.name]
    if len(others) > 1:
        raise NotApplicable("more than one block beside the reduction")
    last = others[0] if others else Block(schedule, schedule.cache_write(main.handle, 0, "local"))
    if not last.is_spatial or len(last.axes) != sum(a.kind != REDUCTION for a in main.axes):
        raise NotApplicable("what follows the reduction has another shape")
    lanes = min(lanes_for(last, last.axes[-1].extent), lanes_for(main, last.axes[-1].extent))
    thread, lane = bind_elements(schedule, last.loops, _THREADS, lanes)
    schedule.compute_at(main.handle, thread, preserve_unit_loops=True)
    if others:
        schedule.set_scope(main.handle, 0, "local")
    inner = schedule.get_loops(main.handle)[2:]
    spatial = [x for x, a in zip(inner, main.axes, strict=True) if a.kind != REDUCTION]
    reduced = [x for x, a in zip(inner, main.axes, strict=True) if a.kind == REDUCTION]
    schedule.reorder(*reduced, *spatial)
    if lanes > 1:
        schedule.vectorize(lane)
        schedule.vectorize(spatial[-1])
    unroll_in_nvcc(schedule, *reduced)
    schedule.decompose_reduction(main.handle, reduced[0])


WINDOWS = ScheduleRule("window-reduction", _applies, _apply)
