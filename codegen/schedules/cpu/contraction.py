"""Reductions whose result is contiguous along an axis that is not reduced.

Matrix products, convolutions, depthwise convolutions, pooling, sums over outer axes: the innermost
axis of the output is vectorised, and if the operand that runs along it does not depend on another
output axis, several rows of that axis are kept in registers together, so that each loaded vector is
used several times.  (The register blocking of Goto and van de Geijn, "Anatomy of High-Performance
Matrix Multiplication", ACM TOMS 34(3), 2008, section 4; without their packing into panels.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import ir, s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import (
    SPATIAL,
    Axis,
    Block,
    attempt,
    collect,
    mentions,
    top_blocks,
)
from graphopt.codegen.schedules.cpu.guarded import guard_write_back, mark_likely, widen
from graphopt.codegen.schedules.cpu.injective import schedule_spatial
from graphopt.codegen.schedules.cpu.parallel import parallelize
from graphopt.codegen.schedules.cpu.tiling import Registers, count, register_rows, vector_width
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.schedules.extents import name_extents, restore_extents
from graphopt.codegen.schedules.rule import NotApplicable, TunableRule
from graphopt.codegen.targets import Target

# Rows of a tile whose columns have a remainder: that part is compiled element by element, and its size
# is what compile time is spent on.
_REMAINDER_ROWS = 8


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return sum(b.is_reduction for b in blocks) == 1 and all(b.is_spatial or b.is_reduction for b in blocks)


def _apply(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
    schedule, names = name_extents(schedule, _main(schedule))
    main = _main(schedule)
    if len(main.stmt.writes) != 1 or main.last_written_axis() is None:
        raise NotApplicable("the output is not one buffer with an axis as its innermost dimension")
    _collapse_neighbours(schedule, main)
    _make_contiguous(schedule, main)
    reused = _reused_axis(main) is not None
    _inline_into_main(schedule, main, keep_stages=reused)
    write_back = Block(schedule, schedule.cache_write(main.handle, 0, "local"))
    _inline_consumers(schedule, write_back)
    _merge_plane(schedule, main, write_back)
    tile = _Tile.of(main, Registers.of(target), decisions)
    odd = tile.odd_axes(main)
    places = {main.written_place(p): write_back.axis_extent(main.written_place(p)) for p in odd}
    partition = tile.partitioned_axis(main)
    place = None if partition is None else main.written_place(partition)
    if odd:
        schedule = widen(schedule, main, odd, tile.column, partition)
        main = Block(schedule, schedule.get_sblock(main.name))
        write_back = Block(schedule, schedule.get_sblock(write_back.name))
    _arrange(schedule, main, write_back, tile, target, decisions)
    tiled = (main.name, f"{main.name}_init", write_back.name)
    stages = [b for b in top_blocks(schedule) if b.name not in tiled and b.is_spatial]
    for block in stages:
        schedule_spatial(schedule, block.handle, target, decisions)
    schedule = mark_likely(schedule, {b.name for b in stages})
    if odd:
        schedule = guard_write_back(schedule, write_back.name, places, place)
    return restore_extents(schedule, names)


@dataclass(frozen=True)
class _Tile:
    """The tile kept in registers: ``rows`` of axis ``row`` by ``width`` of axis ``column`` (positions)."""

    column: int
    width: int
    row: int | None
    rows: int

    @staticmethod
    def of(main: Block, registers: Registers, decisions: Decisions) -> _Tile:
        column = _vector_position(main)
        extent = main.axes[column].extent
        width = vector_width(extent, registers)
        vectors = [w * registers.lanes // 2 for w in (1, 2, 4)]
        options = [w for w in vectors if w > 1 and extent is not None and extent % width == extent % w == 0]
        width = decisions.choose("tile.columns", width, options)
        reused = _reused_axis(main)
        if reused is None:
            return _Tile(column, width, None, 1)
        rows = register_rows(reused.extent, width, registers)
        if extent is None or extent % width:
            rows = min(rows, _REMAINDER_ROWS)
        elif reused.extent is not None:
            most = min(reused.extent, max(rows, registers.accumulators * 4 // 3 // registers.needed(width)))
            rows = decisions.choose("tile.rows", rows, [r for r in (2, 3, 4, 6, 8, 12, 16, 24) if r <= most])
        return _Tile(column, width, main.axes.index(reused), rows)

    def odd_axes(self, main: Block) -> dict[int, int]:
        """The axes that the tile does not divide, with the tile's size there."""
        sizes = (
            {self.column: self.width} if self.row is None else {self.row: self.rows, self.column: self.width}
        )
        extents = {p: main.axes[p].extent for p in sizes}
        return {p: n for p, n in sizes.items() if n > 1 and ((e := extents[p]) is None or e % n)}

    def rows_are_alone(self, main: Block) -> bool:
        """Whether the tiles lie along rows and columns only, with no batch around them."""
        others = [
            a for p, a in enumerate(main.axes) if a.kind == SPATIAL and p not in (self.row, self.column)
        ]
        return self.row is not None and all(a.extent == 1 for a in others)

    def partitioned_axis(self, main: Block) -> int | None:
        """The axis whose remainder gets a loop of its own: columns, else rows that no loop is fused with."""
        odd = self.odd_axes(main)
        if self.column in odd:
            return self.column
        return self.row if self.row in odd and self.rows_are_alone(main) else None


def _main(schedule: s_tir.Schedule) -> Block:
    return next(b for b in top_blocks(schedule) if b.is_reduction)


def _collapse_neighbours(schedule: s_tir.Schedule, main: Block) -> None:
    """Leave at most one stage between memory and each operand, and one between the result and memory."""
    for block in top_blocks(schedule):
        consumers = {schedule.get(c).name_hint for c in schedule.get_consumers(block.handle)}
        if block.is_spatial and main.name not in consumers:
            attempt(schedule.compute_inline, block.handle)


def _make_contiguous(schedule: s_tir.Schedule, main: Block) -> None:
    """Reorder an operand that is strided along the vector axis, as B in ``A @ B.T``, by a stage of its own.

    It costs one pass over the operand and pays when several rows use it.
    """
    vector = main.axes[_vector_position(main)]
    for number, region in enumerate(main.stmt.reads):
        indices = main.indices(region)
        if not main.uses(region, vector) or (indices and mentions(indices[-1], vector.var)):
            continue
        rows = _reused_axis(main, strided=True)
        places = [d for d, index in enumerate(indices) if index.same_as(vector.var)]
        if rows is None or (rows.extent is not None and rows.extent < 4) or len(places) != 1:
            raise NotApplicable("an operand is strided along the output's innermost dimension")
        (place,) = places
        order = [d for d in range(len(indices)) if d != place] + [place]
        schedule.cache_read(main.handle, number, "global")
        schedule.transform_layout(main.handle, ("read", number), _reordering(order))
        main.refresh()


def _reordering(order: Sequence[int]) -> Callable[..., tuple[Any, ...]]:
    """The layout whose axis ``i`` is axis ``order[i]``; TVM passes a variable for each parameter it finds."""
    return lambda *axes: tuple(axes[d] for d in order)


def _reused_axis(main: Block, *, strided: bool = False) -> Axis | None:
    """The output axis nearest to the vector axis that the operands along the vector axis do not use."""
    position = _vector_position(main)
    vector = main.axes[position]
    along = [r for r in main.stmt.reads if main.uses(r, vector)]
    across = [r for r in main.stmt.reads if not main.uses(r, vector)]
    for axis in reversed(main.axes[:position]):
        used = any(main.uses(r, axis) for r in along)
        if axis.kind == SPATIAL and axis.extent != 1 and along and not used:
            if strided or any(main.uses(r, axis) for r in across):
                return axis
    return None


def _inline_into_main(schedule: s_tir.Schedule, main: Block, *, keep_stages: bool) -> None:
    """Inline operands' stages, unless they are used often or hold the conditions of padding."""
    for handle in schedule.get_producers(main.handle):
        block = Block(schedule, handle)
        if block.is_spatial and not keep_stages and not _is_conditional(block):
            attempt(schedule.compute_inline, handle)
    main.refresh()


def _inline_consumers(schedule: s_tir.Schedule, write_back: Block) -> None:
    """Let the elementwise work on the result happen while a tile of it is in registers."""
    while len(consumers := schedule.get_consumers(write_back.handle)) == 1:
        if not _same_size(write_back, Block(schedule, consumers[0])):
            # The result is cut to size by what follows (rows of a packed product are whole tiles): TVM would
            # write all of it, beyond the end of the smaller one.
            break
        if not attempt(schedule.reverse_compute_inline, consumers[0]):
            break
    write_back.refresh()


def _same_size(a: Block, b: Block) -> bool:
    """Whether two blocks write the same number of elements."""
    sizes = [prod(block.axis_extent(p) for p, _ in enumerate(block.axes)) for block in (a, b)]
    return Analyzer().can_prove_equal(*(ir.const(s, "int64") if isinstance(s, int) else s for s in sizes))


def _merge_plane(schedule: s_tir.Schedule, main: Block, write_back: Block) -> None:
    """Treat height and width as one axis where they are one run of memory in every access (1×1 convolution).

    Maps of 7×7 or 14×14 then fill vectors that their rows alone would leave half empty.
    """
    position = _vector_position(main)
    if position == 0 or len(write_back.axes) <= position:
        return
    height, width = main.axes[position - 1], main.axes[position]
    columns = main.stmt.iter_vars[position].dom.extent
    if height.kind != SPATIAL or height.extent == 1:
        return
    for region in [*main.stmt.reads, *main.stmt.writes]:
        indices = [_without_unit_axes(i, main) for i in main.indices(region)]
        plain = len(indices) > 1 and indices[-2].same_as(height.var) and indices[-1].same_as(width.var)
        whole = plain and _equal(region.source.shape[-1], columns)
        if not whole and (main.uses(region, height) or main.uses(region, width)):
            return

    def merged(*axes: Any) -> tuple[Any, ...]:
        return (*axes[: position - 1], axes[position - 1] * columns + axes[position], *axes[position + 1 :])

    if attempt(schedule.transform_layout, main.handle, ("write", 0), merged):
        for block in (main, write_back):
            schedule.transform_block_layout(
                block.handle, tirx.IndexMap.from_func(merged, ndim=len(block.axes), index_dtype="int64")
            )
    main.refresh()
    write_back.refresh()


def _arrange(
    schedule: s_tir.Schedule,
    main: Block,
    write_back: Block,
    tile: _Tile,
    target: Target,
    decisions: Decisions,
) -> None:
    """Order the loops: tiles outside, the reduction around one tile, which is then written back once."""
    loops = main.loops
    outer = [x for x, a in zip(loops, main.axes, strict=True) if a.kind == SPATIAL]
    reduced = [x for x, a in zip(loops, main.axes, strict=True) if a.kind != SPATIAL]
    if not reduced:
        raise NotApplicable("every reduced axis has one element, and merging others dropped it")
    columns, lane = schedule.split(loops[tile.column], factors=[None, tile.width])
    outer.remove(loops[tile.column])
    inner, rows = [lane], None
    if tile.row is not None:
        rows, row = schedule.split(loops[tile.row], factors=[None, tile.rows])
        outer[outer.index(loops[tile.row])] = rows
        inner.insert(0, row)
    schedule.reorder(*outer, columns, *reduced, *inner)
    schedule.reverse_compute_at(write_back.handle, columns)
    schedule.vectorize(lane)
    if tile.row is not None:
        schedule.unroll(inner[0])
    schedule.vectorize(schedule.get_loops(write_back.handle)[-1])
    work = count([a.extent for a in main.axes])
    # A loop that is partitioned stays on its own.
    alone = tile.rows_are_alone(main)
    parallelize(schedule, [rows] if alone else outer or [columns], target, decisions, work)
    # Last: loops around the separated halves can no longer be vectorised or made parallel.
    schedule.decompose_reduction(main.handle, reduced[0])


def _vector_position(main: Block) -> int:
    position = main.last_written_axis()
    if position is None:
        raise NotApplicable("the output's innermost dimension is not one axis")
    return position


def _is_conditional(block: Block) -> bool:
    calls = collect(block.stmt.body, ir.Call)
    return any(getattr(c.op, "name", "") == "prim.if_then_else" for c in calls)


def _without_unit_axes(index: tirx.Expr, block: Block) -> tirx.Expr:
    analyzer = Analyzer()
    for axis in block.axes:
        if axis.extent == 1:
            analyzer.bind(axis.var, axis.start)
    return analyzer.simplify(index)


def _equal(a: Any, b: Any) -> bool:
    return bool(Analyzer().can_prove_equal(a, b))


CONTRACTION = TunableRule("contraction", _applies, _apply)
