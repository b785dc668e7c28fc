"""Names for computed sizes, so that TVM can reason about them as it does about plain symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import Block


def name_extents(schedule: s_tir.Schedule, block: Block) -> tuple[s_tir.Schedule, dict[Any, tirx.Expr]]:
    """A schedule in which sizes such as ``(width - 1) // 2 + 1`` are variables of their own.

    TVM proves what it needs of ``n``, but not of such expressions.  :func:`restore_extents` undoes it.
    A function may only use variables that a parameter's shape defines, so only sizes of parameters
    get a name.

    Returns:
        the schedule, and the expression behind each new variable.
    """
    compound = [
        v.dom.extent for v in block.stmt.iter_vars if not isinstance(v.dom.extent, ir.Var | tirx.IntImm)
    ]
    parameters = [p for p in schedule.mod["main"].params if isinstance(p.ty, tirx.BufferType)]
    sizes = [size for parameter in parameters for size in parameter.shape]
    names: dict[Any, tirx.Expr] = {}
    for number, extent in enumerate(compound):
        if not any(tvm_ffi.structural_equal(extent, size) for size in sizes):
            continue
        if not any(tvm_ffi.structural_equal(extent, known) for known in names.values()):
            names[tirx.Var(f"graphopt_extent_{number}", "int64")] = extent

    def named(expression: Any) -> Any:
        matches = (v for v, e in names.items() if tvm_ffi.structural_equal(expression, e))
        return next(matches, expression)

    kinds = {type(e) for e in names.values()}
    return mapped(schedule, [(k, named) for k in kinds], order="pre") if names else schedule, names


def restore_extents(schedule: s_tir.Schedule, names: Mapping[Any, tirx.Expr]) -> s_tir.Schedule:
    """Put the expressions back that :func:`name_extents` replaced.

    By name: mapping a function renews its variables, the free ones too.
    """
    expressions = {v.name: e for v, e in names.items()}

    def restored(variable: Any) -> Any:
        return expressions.get(variable.name, variable)

    return mapped(schedule, [(ir.Var, restored)]) if names else schedule


def mapped(schedule: s_tir.Schedule, callbacks: list[Any], *, order: str = "post") -> s_tir.Schedule:
    """A schedule of the function with ``callbacks`` (see ``tvm_ffi.structural_map``) applied to it."""
    func = tvm_ffi.structural_map(schedule.mod["main"], callbacks, order=order)
    return s_tir.Schedule(tvm.IRModule({"main": func}))
