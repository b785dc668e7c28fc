"""Windows that reach over the border of an image, without a copy of the image that has one.

A convolution reads zero outside of its image.  A test on every pixel would cost more than the
multiply-add behind it, and a copy with a border as much as a small window.  So taps above and below the
image are left out by one test a row of taps, and another one tells the tiles whose columns are all inside,
for which there is code without tests.  Where a row has few tiles they are unrolled, and it is a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import collect, conjuncts, mentions
from graphopt.codegen.schedules.extents import mapped

WINDOW_ROWS = "graphopt.window_rows"
"""Annotation of a block that reads an image through a window: stride, dilation, rows above and taps.

The block's second axis is the row of the result, its first reduced one the row of the window, and what is
outside of the image is a condition ``if_then_else(all(...), pixel, 0)`` in its body.
"""


def clip_windows(schedule: s_tir.Schedule, name: str) -> s_tir.Schedule:
    """Leave out the rows of taps outside of the image, in the block called ``name`` with :data:`WINDOW_ROWS`.

    The reduction must have been decomposed, and the loop over the window's rows lie inside of that over
    the result's.
    """

    def clipped(loop: Any) -> Any:
        blocks = [r for r in collect(loop.body, s_tir.SBlockRealize) if r.block.name_hint == name]
        if len(blocks) != 1 or WINDOW_ROWS not in (blocks[0].block.annotations or {}):
            return loop
        realize = blocks[0]
        block = realize.block
        tap = _first_reduced(block)
        if not realize.iter_values[tap].same_as(loop.loop_var):
            return loop
        stride, dilation, above = (int(v) for v in block.annotations[WINDOW_ROWS])
        height, columns, bordered, inner = _without_rows_test(block, block.iter_vars[tap].var)
        if height is None:
            return loop
        # Tap k of row y reads row y * stride + k * dilation - above of the image.
        row = realize.iter_values[1] * stride + loop.loop_var * dilation
        within = tirx.all(row >= above, row < height + above)
        taps = _with_body(loop.body, realize, bordered)
        if columns:
            everywhere = _at_corners(columns, realize, loop.body)
            taps = tirx.IfThenElse(everywhere, _renewed(_with_body(loop.body, realize, inner)), taps)
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, tirx.IfThenElse(within, taps, None))

    return mapped(schedule, [(tirx.For, clipped)])


def _first_reduced(block: Any) -> int:
    return next(i for i, v in enumerate(block.iter_vars) if v.iter_type == tirx.IterVar.CommReduce)


def _without_rows_test(block: Any, tap: Any) -> tuple[Any, list[Any], Any, Any]:
    """The image's height, the tests on columns, and the block's body with them alone and with none."""
    heights: list[Any] = []
    columns: list[Any] = []

    def relaxed(call: Any) -> Any:
        if getattr(call.op, "name", "") != "prim.if_then_else":
            return call
        test, pixel, outside = call.args
        tests = [t for t in conjuncts(test) if not mentions(t, tap)]
        loads = [load for load in collect(pixel, ir.TensorLoad) if mentions(load, tap)]
        heights.extend(load.source.shape[1] for load in loads)
        columns.extend(tests)
        return tirx.if_then_else(tirx.all(*tests), pixel, outside) if tests else pixel

    def inside(call: Any) -> Any:
        return call.args[1] if getattr(call.op, "name", "") == "prim.if_then_else" else call

    bordered = tvm_ffi.structural_map(block.body, (ir.Call, relaxed))
    one = heights and all(tvm_ffi.structural_equal(height, heights[0]) for height in heights)
    inner = tvm_ffi.structural_map(block.body, (ir.Call, inside))
    return (heights[0] if one else None), columns, bordered, inner


def _with_body(statement: Any, realize: Any, body: Any) -> Any:
    """The loops of a block around another body of it."""
    block = realize.block
    changed = s_tir.SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers
    )
    new = s_tir.SBlockRealize(realize.iter_values, realize.predicate, changed)
    return tvm_ffi.structural_map(
        statement, (s_tir.SBlockRealize, lambda r: new if r.block.name_hint == block.name_hint else r)
    )


def _renewed(statement: Any) -> Any:
    """The same statement with loops and blocks of its own: none may stand in a function twice."""
    loops = collect(statement, tirx.For)
    axes = [v for block in collect(statement, s_tir.SBlock) for v in block.iter_vars]
    new = {v: tirx.Var(v.name, v.ty) for v in (*(loop.loop_var for loop in loops), *(a.var for a in axes))}
    return _replaced(statement, new)


def _at_corners(tests: list[Any], realize: Any, loops: Any) -> Any:
    """Whether tests hold in all of ``loops``: at the ends of each, since they are linear."""
    values = {v.var: value for v, value in zip(realize.block.iter_vars, realize.iter_values, strict=True)}
    cases = [_replaced(test, values) for test in tests]
    for loop in collect(loops, tirx.For):
        ends = (loop.min, loop.min + loop.extent - 1)
        cases = [
            _replaced(case, {loop.loop_var: end})
            for case in cases
            for end in (ends if mentions(case, loop.loop_var) else ends[:1])
        ]
    return Analyzer().simplify(tirx.all(*cases))


def _replaced(expression: Any, values: Mapping[Any, Any]) -> Any:
    def value(variable: Any) -> Any:
        return next((new for old, new in values.items() if variable.same_as(old)), variable)

    return tvm_ffi.structural_map(expression, (ir.Var, value))
