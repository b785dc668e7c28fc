"""Makes the axes of a reduction a multiple of its tile, so that tiles need no conditions inside.

A tile that sticks out of the result would need a condition on every element, which neither vectorises
nor stays in registers.  Instead the block computes whole tiles: rows beyond the end repeat the last
row, columns beyond the end are zero, and neither is written back.  The test on columns is marked
*likely*: TVM's loop partitioning then splits the loop over tiles into one without the test and a
remainder.  Symbolic sizes take the same way as odd ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, conjuncts, mentions
from graphopt.codegen.schedules.extents import mapped


def widen(
    schedule: s_tir.Schedule, main: Block, multiples: Mapping[int, int], vector: int, partition: int | None
) -> s_tir.Schedule:
    """A schedule of the same function in which axes of ``main`` are rounded up to multiples.

    Args:
        main: a reduction that writes an intermediate buffer, point by point, with its axes as indices.
        multiples: axis position to the number that its extent shall be a multiple of.
        vector: position of the axis along which tiles are vectorised.
    """
    extents = {p: main.stmt.iter_vars[p].dom.extent for p in multiples}
    wide = {p: tirx.floordiv(e + (multiples[p] - 1), multiples[p]) * multiples[p] for p, e in extents.items()}
    loops = {schedule.get(main.loops[p]).loop_var: wide[p] for p in multiples}

    def in_bounds(load: Any, result: Any) -> Any:
        if load.source.same_as(result):
            return load
        indices, column = list(load.indices), main.axes[vector].var
        for position in multiples:
            row = main.axes[position].var
            if position == vector or not any(mentions(i, row) for i in indices):
                continue
            repeated = [_replaced(i, row, tirx.min(row, extents[position] - 1)) for i in indices]
            if position != partition:
                indices = repeated
            else:
                test = tirx.likely(row < extents[position])
                again = tirx.BufferLoad(load.source, repeated)
                return tirx.if_then_else(test, tirx.BufferLoad(load.source, indices), again)
        inside = tirx.BufferLoad(load.source, indices)
        if vector not in multiples or not any(mentions(i, column) for i in indices):
            return inside
        zero = tirx.const(0, load.source.dtype)
        return tirx.if_then_else(tirx.likely(column < extents[vector]), inside, zero)

    def widened(realize: Any) -> Any:
        block = realize.block
        if block.name_hint != main.name:
            return realize
        axes = [
            tirx.IterVar(ir.Range(v.dom.min, wide[p]), v.var, v.iter_type) if p in wide else v
            for p, v in enumerate(block.iter_vars)
        ]
        result = block.writes[0].source
        body = tvm_ffi.structural_map(block.body, (ir.TensorLoad, lambda load: in_bounds(load, result)))
        changed = s_tir.SBlock(
            axes, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers
        )
        return s_tir.SBlockRealize(realize.iter_values, realize.predicate, changed)

    def longer(loop: Any) -> Any:
        for var, extent in loops.items():
            if loop.loop_var.same_as(var):
                return tirx.For(loop.loop_var, loop.min, extent, loop.kind, loop.body)
        return loop

    schedule = mapped(schedule, [(s_tir.SBlockRealize, widened), (tirx.For, longer)])
    # Mapping renews variables: the buffer to enlarge is looked up in the function as it is now.
    old = schedule.get(schedule.get_sblock(main.name)).writes[0].source
    shape = list(old.shape)
    for position in multiples:
        shape[main.written_place(position)] = wide[position]
    new = tirx.decl_buffer(shape, old.dtype, old.name, scope=old.scope())
    return mapped(schedule, [(ir.Var, lambda b: new if b.same_as(old) else b)])


def guard_write_back(
    schedule: s_tir.Schedule, name: str, extents: Mapping[int, tirx.Expr], partition: int | None
) -> s_tir.Schedule:
    """State the one condition under which a tile's element is written: that it is inside the result.

    TVM derives a condition of its own, which is right but does not simplify away in full tiles.

    Args:
        name: the block that copies tiles into the result.
        extents: axis position of that block to the true size of the result there.
        partition: position of the axis whose loop will be partitioned; its test is marked likely.
    """

    def guarded(realize: Any) -> Any:
        if realize.block.name_hint != name:
            return realize
        tests = []
        for position, extent in extents.items():
            inside = realize.iter_values[position] < extent
            tests.append(tirx.likely(inside) if position == partition else inside)
        return s_tir.SBlockRealize(realize.iter_values, tirx.all(*tests), realize.block)

    return mapped(schedule, [(s_tir.SBlockRealize, guarded)])


def mark_likely(schedule: s_tir.Schedule, names: Collection[str]) -> s_tir.Schedule:
    """Mark the conditions under which the blocks called ``names`` run as likely, to be partitioned."""

    def marked(realize: Any) -> Any:
        tests = [t for t in conjuncts(realize.predicate) if not isinstance(t, tirx.IntImm)]
        if realize.block.name_hint not in names or not tests:
            return realize
        predicate = tirx.all(*map(tirx.likely, tests))
        return s_tir.SBlockRealize(realize.iter_values, predicate, realize.block)

    return mapped(schedule, [(s_tir.SBlockRealize, marked)])


def unmark_vectors(schedule: s_tir.Schedule) -> s_tir.Schedule:
    """Take *likely* off the tests that differ between the lanes of a vector.

    TVM would part the vectorised loop where such a test changes, into parts whose lengths no vector has.
    """

    def plain(loop: Any) -> Any:
        if loop.kind != tirx.ForKind.VECTORIZED:
            return loop
        return tvm_ffi.structural_map(loop, (s_tir.SBlockRealize, lambda r: without_marks(r, loop.loop_var)))

    def without_marks(realize: Any, lane: Any) -> Any:
        block = realize.block
        axes = [
            axis.var
            for axis, value in zip(block.iter_vars, realize.iter_values, strict=True)
            if mentions(value, lane)
        ]

        def unmarked(call: Any) -> Any:
            marked = getattr(call.op, "name", "") == "prim.likely"
            return call.args[0] if marked and any(mentions(call.args[0], a) for a in axes) else call

        body = tvm_ffi.structural_map(block.body, (ir.Call, unmarked))
        changed = s_tir.SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init,
            block.alloc_buffers, block.match_buffers, block.annotations,
        )  # fmt: skip
        return s_tir.SBlockRealize(realize.iter_values, realize.predicate, changed)

    return mapped(schedule, [(tirx.For, plain)])


def _replaced(index: tirx.Expr, var: Any, value: tirx.Expr) -> tirx.Expr:
    return tvm_ffi.structural_map(index, (type(var), lambda v: value if v.same_as(var) else v))
