"""Scheduled TensorIR to flat loops, for every target that is a CPU.

The list is TVM's own (``tvm.s_tir.pipeline``) with two passes more, which is why it is written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

PIPELINE_NAME = "graphopt"
"""The name of the whole pipeline, down to what LLVM takes, in TVM's table."""

# Loops whose conditions a schedule marks as likely are split into a part without them and a remainder.
# Loops of one iteration stay: what TVM writes in their place would mix index types.
CONFIG = {"s_tir.LoopPartition": {"partition_const_loop": True, "no_unroll_loop_with_extent_one": True}}


def single_lanes() -> tvm.transform.Pass:
    """Make vectorised loops of one iteration serial.

    Partitioning leaves them where all but one element of a vector, or just one, is inside; TVM's next
    pass fails on a vector of one.
    """

    def serial(loop: tirx.For) -> tirx.For:
        one = isinstance(loop.extent, tirx.IntImm) and int(loop.extent) == 1
        if loop.kind != tirx.ForKind.VECTORIZED or not one:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    @tirx.transform.prim_func_pass(opt_level=0, name="GraphoptSingleLanes")
    def run(func: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(func, (tirx.For, serial))

    return run


STACK_BYTES = 4096
"""The largest local array that lies on the stack; the largest tile of sums takes 32 registers of 64 bytes."""


def stack_tiles() -> tvm.transform.Pass:
    """Allocate small local arrays on the stack, whence LLVM moves them into registers.

    TVM asks its runtime for memory of any scope but ``global``.  LLVM has to write all sums of a tile there:
    zeros before the first step, results after the last, to be read again by what follows.
    """
    here = {"disable_lower_builtin": tirx.IntImm("int32", 1)}

    def on_stack(allocation: tirx.AllocBuffer) -> tirx.AllocBuffer:
        buffer = allocation.buffer
        sizes = [int(size) for size in buffer.shape if isinstance(size, tirx.IntImm)]
        if buffer.scope() != "local" or len(sizes) != len(buffer.shape):
            return allocation
        if prod(sizes) * tvm.DataType(str(buffer.dtype)).itemsize > STACK_BYTES:
            return allocation
        return tirx.AllocBuffer(buffer, {**dict(allocation.annotations), **here})

    @tirx.transform.prim_func_pass(opt_level=0, name="GraphoptStackTiles")
    def run(func: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
        return tvm_ffi.structural_map(func, (tirx.AllocBuffer, on_stack))

    return run


LOOPS: tuple[Callable[[], tvm.transform.Pass], ...] = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.StmtSimplify,
    s_tir.transform.AnnotateIrregularLoop,
    s_tir.transform.LowerOpaqueBlock,
    tirx.transform.FlattenBuffer,
    tirx.transform.BF16ComputeLegalize,
    lambda: tirx.transform.NarrowDataType(32),
    s_tir.transform.LoopPartition,
    single_lanes,
    lambda: tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite,
    s_tir.transform.HoistIfThenElse,
)
"""To loops over flat arrays, with vectors."""

CLEAN_UP: tuple[Callable[[], tvm.transform.Pass], ...] = (
    tirx.transform.UnrollLoop,
    s_tir.transform.RenormalizeSplitPattern,
    tirx.transform.StmtSimplify,
    tirx.transform.RemoveNoOp,
    s_tir.transform.RewriteUnsafeSelect,
    tirx.transform.CommonSubexprElim,
)
"""What follows them."""

_CALLS: tuple[Callable[[], tvm.transform.Pass], ...] = (
    stack_tiles,
    tirx.transform.FP8ComputeLegalize,
    tirx.transform.VerifyMemory,
    tirx.transform.AnnotateEntryFunc,
    tirx.transform.SplitHostDevice,
    tirx.transform.MakePackedAPI,
    tirx.transform.FP8StorageLegalize,
    tirx.transform.BF16StorageLegalize,
)


def _pipeline() -> tuple[Any, Any, Any]:
    @tvm.transform.module_pass(opt_level=0, name="GraphoptLoops")
    def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        return tvm.transform.Sequential([make() for make in (*LOOPS, *CLEAN_UP, *_CALLS)])(mod)

    _, finalize_host, finalize_device = tirx.get_tir_pipeline("s_tir")
    return run, finalize_host, finalize_device


tirx.register_tir_pipeline(PIPELINE_NAME, _pipeline)
