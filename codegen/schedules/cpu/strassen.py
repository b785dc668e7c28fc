"""Products by Strassen's algorithm: sums of a block of rows, seven products, and their sums, in cache.

The stages are those of :func:`graphopt.codegen.relax.strassen.strassen_matmul`.  A block's rows are summed
once, to be read for each pair of panels of weights; then come the seven products of a pair, in register
tiles, and at once the sums of products, with bias, activation and residual.  Nothing but the result leaves
the cache.  Blocks run in parallel; rows that are one block are summed first, and pairs run in parallel.
"""

from __future__ import annotations

from math import gcd

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, loop_extent, top_blocks
from graphopt.codegen.schedules.cpu.packed import guard, inline_epilogue, tile_in_registers, vectorize_write
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.strassen import STRASSEN_RULE
from graphopt.codegen.targets import Target

STRASSEN = "graphopt.strassen"
"""Annotation of the products' block: lines in half a block, whether an axis of rows lies within a line, and
the products' register tile."""

SUMS, PRODUCT, WHOLE = "strassen_sums", "strassen_product", "strassen_whole"
"""Names of the stages, in their order: sums of parts of the left operand; products; and their sums."""

_LINE = 16
"""Elements of a cache line.  Rows of sums lie an odd number of them apart, for all sets to be used."""


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return sum(STRASSEN in dict(b.stmt.annotations) for b in blocks) == 1


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    stages = {b.name: b for b in top_blocks(schedule)}
    if not {SUMS, PRODUCT, WHOLE} <= set(stages):
        raise NotApplicable("a stage is missing")
    whole, product, sums = stages[WHOLE], stages[PRODUCT], stages[SUMS]
    annotation = dict(product.stmt.annotations)[STRASSEN]
    group, inside, rows, columns = (int(v) for v in annotation)
    lanes = Registers.of(target).lanes
    width = gcd(columns, lanes)
    last = inline_epilogue(schedule, whole, frozenset(stages))
    *outer, panel, column = whole.loops
    within = [outer.pop()] if inside else []
    line = outer.pop()
    block, upper, line = schedule.split(line, factors=[None, 2, group])
    pair, left = schedule.split(panel, factors=[None, 2])
    vector, lane = schedule.split(column, factors=[None, width])
    # A quarter's sum is known where its loops are unrolled; its vectors are written one by one.
    schedule.reorder(*outer, block, pair, line, *within, upper, left, vector, lane)
    schedule.reverse_compute_at(last.handle, vector, preserve_unit_loops=True)
    schedule.compute_at(product.handle, pair, preserve_unit_loops=True)
    at_once = all(loop_extent(schedule, loop) == 1 for loop in (*outer, block))
    if not at_once:
        schedule.compute_at(sums.handle, block, preserve_unit_loops=True)
    _sum_rows(schedule, sums, at_once, lanes)
    reduced = tile_in_registers(schedule, product, rows, width)
    schedule.vectorize(lane)
    schedule.unroll(upper)
    schedule.unroll(left)
    schedule.set_scope(whole.handle, 0, "local")
    lane_name = vectorize_write(schedule, last, columns, width)
    schedule.parallel(schedule.fuse(*outer, block, *([pair] if at_once else [])))
    schedule.decompose_reduction(product.handle, reduced)
    sizes = {-3 if inside else -2: 2 * group, -1: 2 * columns}
    return guard(schedule, last.name, sizes, lane_name)


def _sum_rows(schedule: s_tir.Schedule, sums: Block, at_once: bool, lanes: int) -> None:
    """A block's sums: each part of its rows is loaded once for all seven."""
    *outer, product, row, depth = schedule.get_loops(sums.handle)
    width = gcd(loop_extent(schedule, depth) or 1, lanes)
    vectors, lane = schedule.split(depth, factors=[None, width])
    schedule.reorder(row, vectors, product, lane)
    schedule.vectorize(lane)
    schedule.unroll(product)
    schedule.storage_align(sums.handle, 0, -2, 2 * _LINE, _LINE)
    if at_once:
        schedule.parallel(schedule.fuse(*outer, row))


STRASSEN_PRODUCT = ScheduleRule(STRASSEN_RULE, _applies, _apply)
