"""Scheduled TensorIR to the form that :mod:`graphopt.codegen.csource.kernel` prints."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import ir, tirx

from graphopt.codegen.loops import CLEAN_UP, CONFIG, LOOPS
from graphopt.codegen.pipeline import last_line
from graphopt.errors import InternalError

# Loops over what is held in registers are written out up to this length: registers have no index.
_UNROLL = 32


def lower_kernels(mod: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
    """The kernels of a scheduled module by name, lowered.

    Raises:
        InternalError: GO-1001, a pass of TVM failed.
    """
    kernels = tvm.IRModule(
        {
            name: func.with_attr("global_symbol", name.name_hint)
            for name, func in mod.functions_items()
            if isinstance(func, tirx.PrimFunc)
        }
    )
    target = tvm.target.Target("c")
    try:
        with target, tvm.transform.PassContext(opt_level=3, config=CONFIG):
            kernels = tirx.transform.BindTarget(target.with_host(target))(kernels)
            for make in LOOPS:
                kernels = make()(kernels)
            for name, func in kernels.functions_items():
                kernels.update_func(name, _unroll_registers(func))
            for make in (*CLEAN_UP, tirx.transform.LowerIntrin):
                kernels = make()(kernels)
    except Exception as error:  # TVM raises whatever its C++ threw
        raise InternalError(f"lowering to C failed: {last_line(error)}", code="GO-1001") from error
    return {name.name_hint: func for name, func in kernels.functions_items()}


def _unroll_registers(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Mark the short loops that index an array of registers as unrolled."""

    def unrolled(loop: tirx.For) -> tirx.For:
        extent = loop.extent
        if loop.kind != tirx.ForKind.SERIAL or not isinstance(extent, tirx.IntImm):
            return loop
        if not 1 < int(extent) <= _UNROLL or not _indexes_registers(loop):
            return loop
        return tirx.For(loop.loop_var, loop.min, extent, tirx.ForKind.UNROLLED, loop.body)

    return tvm_ffi.structural_map(func, (tirx.For, unrolled))


def _indexes_registers(loop: tirx.For) -> bool:
    accesses: list[tuple[Any, Any]] = []
    tvm_ffi.structural_walk(loop.body, (ir.TensorLoad, lambda n: accesses.append((n.source, n.indices))))
    tvm_ffi.structural_walk(loop.body, (tirx.BufferStore, lambda n: accesses.append((n.buffer, n.indices))))

    def uses_variable(indices: Any) -> bool:
        found: list[Any] = []
        for index in indices:
            tvm_ffi.structural_walk(index, (ir.Var, found.append))
        return any(v.same_as(loop.loop_var) for v in found)

    return any(buffer.scope() == "local" and uses_variable(indices) for buffer, indices in accesses)
