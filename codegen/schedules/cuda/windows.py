"""Short reductions over windows: depthwise convolutions, pooling.

A thread computes neighbouring channels of one output, sums in registers, and the elementwise operators that
follow happen on them before they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import REDUCTION, Block, attempt, collect, mentions, top_blocks
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


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    (main,) = [b for b in top_blocks(schedule) if b.is_reduction]
    for block in top_blocks(schedule):
        if block.is_spatial and schedule.get_consumers(block.handle):
            attempt(schedule.compute_inline, block.handle)
    main.refresh()
    others = [b for b in top_blocks(schedule) if b.name != main.name]
    if len(others) > 1:
        raise NotApplicable("more than one block beside the reduction")
    last = others[0] if others else Block(schedule, schedule.cache_write(main.handle, 0, "local"))
    main.refresh()
    if not last.is_spatial or not _point_for_point(main, last):
        raise NotApplicable("what follows the reduction has another shape")
    lanes = min(lanes_for(last, last.axes[-1].extent), lanes_for(main, last.axes[-1].extent))
    schedule = _in_one_nest(schedule, main, last, lanes)
    main, last = (Block(schedule, schedule.get_sblock(b.name)) for b in (main, last))
    schedule.set_scope(main.handle, 0, "local")
    *loops, written = schedule.get_loops(last.handle)
    bind_elements(schedule, loops, _THREADS)
    *_, summed = schedule.get_loops(main.handle)
    reduced = schedule.get_loops(main.handle)[-1 - main.kinds.count(REDUCTION) : -1]
    if lanes > 1:
        schedule.vectorize(summed)
        schedule.vectorize(written)
    schedule.decompose_reduction(main.handle, reduced[0])
    unroll_in_nvcc(schedule, *reduced)
    return schedule


def _point_for_point(main: Block, last: Block) -> bool:
    """Whether the last block reads the reduction at its own axes, which are those of the reduction."""
    spatial = [p for p, a in enumerate(main.axes) if a.kind != REDUCTION]
    written = main.indices(main.stmt.writes[0])
    if len(spatial) != len(last.axes) or spatial != list(range(len(spatial))) or len(main.stmt.writes) != 1:
        return False
    reads = [r for r in last.stmt.reads if r.source.same_as(main.stmt.writes[0].source)]
    return all(
        index.same_as(main.axes[p].var)
        and all(last.indices(read)[p].same_as(last.axes[p].var) for read in reads)
        and tvm_ffi.structural_equal(main.axis_extent(p), last.axis_extent(p))
        for p, index in zip(spatial, written, strict=True)
    )


def _in_one_nest(schedule: s_tir.Schedule, main: Block, last: Block, lanes: int) -> s_tir.Schedule:
    """Both blocks in the loops over vectors of the result, each with a loop of its own over a vector.

    TVM derives the same from ``compute_at``, but not for symbolic sizes.
    """
    body = schedule.mod["main"].body
    (root,) = [r for r in collect(body, s_tir.SBlockRealize) if r.block.name_hint == "root"]
    extents = [main.axis_extent(p) for p in range(len(main.axes))]
    rank = len(last.axes)
    loops = [tirx.Var(f"t{i}", "int64") for i in range(rank)]
    sums = [tirx.Var(f"k{i}", "int64") for i in range(len(main.axes) - rank)]
    always, zero, width = tirx.IntImm("bool", 1), tirx.IntImm("int64", 0), tirx.IntImm("int64", lanes)

    def nest(variables: Sequence[Any], sizes: Sequence[Any], inside: Any) -> Any:
        for var, extent in reversed(list(zip(variables, sizes, strict=True))):
            inside = tirx.For(var, zero, extent, tirx.ForKind.SERIAL, inside)
        return inside

    def over_vector(name: str, block: Any, more: Sequence[Any]) -> Any:
        lane = tirx.Var(name, "int64")
        values = [*loops[:-1], loops[-1] * width + lane, *more]
        return nest([lane], [width], s_tir.SBlockRealize(values, always, block))

    summed = nest(sums, extents[rank:], over_vector("v0", main.stmt, sums))
    both = tirx.SeqStmt([summed, over_vector("v1", last.stmt, [])])
    vectors = [*extents[: rank - 1], Analyzer().simplify(tirx.floordiv(extents[rank - 1], lanes))]
    block = root.block
    outer = s_tir.SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, nest(loops, vectors, both), block.init,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
    func = schedule.mod["main"].with_body(s_tir.SBlockRealize(root.iter_values, root.predicate, outer))
    return s_tir.Schedule(tvm.IRModule({"main": func}))


WINDOWS = ScheduleRule("window-reduction", _applies, _apply)
