"""Whether a scheduled function can become a kernel."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import collect
from graphopt.codegen.targets import Target


def is_bound(func: tirx.PrimFunc) -> bool:
    """Whether all blocks of a function are inside a ``threadIdx`` loop."""
    schedule = s_tir.Schedule(func)
    root = schedule.get_sblock("root")
    return all(_in_thread(schedule, b) for b in schedule.get_child_blocks(root))


def why_not_lowered(func: tirx.PrimFunc, target: Target) -> str | None:
    """Why a scheduled function cannot become a kernel; None when it can.

    Symbolic sizes bring out limits that schedules do not check: barriers under a condition, on-chip
    memory of unknown size.  So the function is lowered, once on its own, to find out.
    """
    machine = tvm.target.Target(target.tvm_config())
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    module = tirx.transform.BindTarget(machine.with_host(machine.host))(module)
    try:
        with machine, tvm.transform.PassContext(opt_level=3):
            sizes = tvm.transform.Sequential([p() for p in _UNTIL_SIZES_ARE_SETTLED])(module)["main"]
            tirx.get_tir_pipeline("s_tir")[0](module)
    except Exception as error:  # TVM raises whatever its C++ threw
        return str(error).strip().splitlines()[-1]
    buffers = [b for block in collect(sizes, s_tir.SBlock) for b in block.alloc_buffers]
    on_chip = [b for b in buffers if b.scope() not in ("", "global")]
    known = all(isinstance(size, tirx.IntImm) for b in on_chip for size in b.shape)
    return None if known else "it needs on-chip memory of a size that is not known"


# TVM's lowering up to where it shrinks buffers to what is used.
_passes = s_tir.transform
_UNTIL_SIZES_ARE_SETTLED = (
    _passes.CanonicalizeLoop,
    _passes.LowerCrossThreadReduction,
    _passes.LowerInitBlock,
    _passes.PlanAndUpdateBufferAllocationLocation,
    _passes.ConvertBlocksToOpaque,
    _passes.LiftThreadBinding,
    _passes.ManifestSharedMemoryLocalStage,
    _passes.CompactBufferAllocation,
)


def _in_thread(schedule: s_tir.Schedule, block: Any) -> bool:
    for loop in schedule.get_loops(block):
        binding = schedule.get(loop).thread_binding
        if binding is not None and str(binding.thread_tag).startswith("threadIdx"):
            return True
    return False
