"""Kernels that are a sequential program for each row (sorting): one thread block a row, of one thread.

Their blocks read what they write, so TVM's primitives decline to bind their loops.  The block says
itself that rows are independent (its axes are spatial); the binding is written into the loop here.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import top_blocks
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return len(blocks) == 1 and blocks[0].is_spatial


def _apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
    (block,) = top_blocks(schedule)
    loops = schedule.get_loops(block.handle)
    if not loops:
        raise NotApplicable("a single sequential program: there is no row to give to a thread block")
    rows = schedule.get(loops[0])

    def bound(loop: Any) -> Any:
        if not loop.loop_var.same_as(rows.loop_var):
            return loop
        body = _bind(tirx.Var("thread", "int64"), tirx.IntImm("int64", 1), "threadIdx.x", loop.body)
        return _bind(loop.loop_var, loop.extent, "blockIdx.x", body)

    func = tvm_ffi.structural_map(schedule.mod["main"], (tirx.For, bound))
    return s_tir.Schedule(tvm.IRModule({"main": func}))


def _bind(var: Any, extent: tirx.Expr, tag: str, body: Any) -> Any:
    zero = tirx.IntImm("int64", 0)
    axis = tirx.IterVar(ir.Range(zero, extent), tirx.Var(tag, "int64"), tirx.IterVar.ThreadIndex, tag)
    return tirx.For(var, zero, extent, tirx.ForKind.THREAD_BINDING, body, thread_binding=axis)


SEQUENTIAL_ROWS = ScheduleRule("sequential-rows", _applies, _apply)
