"""Windows that reach over the border of an image, without a copy of the image that has one.

A convolution reads zero outside of its image.  A test on every pixel would cost more than the
multiply-add behind it, and a copy with a border as much as a small window.  So taps above and below the
image are left out by one test a row of taps; and where a row has few tiles they are unrolled, which makes
the test on columns a constant for every pixel.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import collect, mentions
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
        height, body = _without_rows_test(block, block.iter_vars[tap].var)
        if height is None:
            return loop
        # Tap k of row y reads row y * stride + k * dilation - above of the image.
        row = realize.iter_values[1] * stride + loop.loop_var * dilation
        changed = s_tir.SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers
        )
        new = s_tir.SBlockRealize(realize.iter_values, realize.predicate, changed)
        inner = tvm_ffi.structural_map(
            loop.body,
            (s_tir.SBlockRealize, lambda r: new if r.block.name_hint == name else r),
        )
        inside = tirx.IfThenElse(tirx.all(row >= above, row < height + above), inner, None)
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, inside)

    return mapped(schedule, [(tirx.For, clipped)])


def _first_reduced(block: Any) -> int:
    return next(i for i, v in enumerate(block.iter_vars) if v.iter_type == tirx.IterVar.CommReduce)


def _without_rows_test(block: Any, tap: Any) -> tuple[Any, Any]:
    """The image's height, and the block's body with tests on columns only."""
    heights: list[Any] = []

    def relaxed(call: Any) -> Any:
        if getattr(call.op, "name", "") != "prim.if_then_else":
            return call
        test, pixel, outside = call.args
        columns = [t for t in _conjuncts(test) if not mentions(t, tap)]
        loads = [load for load in collect(pixel, ir.TensorLoad) if mentions(load, tap)]
        heights.extend(load.source.shape[1] for load in loads)
        return tirx.if_then_else(tirx.all(*columns), pixel, outside) if columns else pixel

    body = tvm_ffi.structural_map(block.body, (ir.Call, relaxed))
    one = heights and all(tvm_ffi.structural_equal(height, heights[0]) for height in heights)
    return (heights[0] if one else None), body


def _conjuncts(test: Any) -> list[Any]:
    return [*_conjuncts(test.a), *_conjuncts(test.b)] if isinstance(test, tirx.And) else [test]
