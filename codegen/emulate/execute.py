"""Building lowered functions for this machine's CPU, and calling them on torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import tvm
from tvm import s_tir, tirx

from graphopt.codegen.emulate.memory import NotModelled

_PIPELINE = "graphopt-lowered"


def build_on_cpu(functions: Mapping[str, tirx.PrimFunc]) -> dict[str, Callable[..., None]]:
    """Machine code of lowered functions: loops, flat buffers and scalars only.

    Returns:
        for each name a callable that takes one contiguous CPU tensor a buffer parameter and a number a
        scalar parameter, and writes its outputs in place.

    Raises:
        NotModelled: TVM cannot compile them for a CPU.
    """
    _register()
    module = tvm.IRModule(
        {
            name: tirx.PrimFunc(f.params, f.body).with_attr("global_symbol", name)
            for name, f in functions.items()
        }
    )
    try:
        library = tirx.build(module, target=_machine(), pipeline=_PIPELINE)
    except Exception as error:  # TVM raises whatever its C++ threw
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise NotModelled(f"TVM cannot compile it for a CPU: {' '.join(lines[:2])[:200]}") from error
    return {name: _on_tensors(library[name]) for name in functions}


def computed_on_cpu(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A function lowered for a GPU without arithmetic in types that a CPU only stores (bfloat16, float8)."""
    module = tvm.IRModule({"main": func.with_attr("target", _machine())})
    passes = [tirx.transform.BF16ComputeLegalize(), tirx.transform.FP8ComputeLegalize()]
    return tvm.transform.Sequential(passes)(module)["main"]


def lower_for_cpu(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """An unscheduled function as serial loops over flat buffers."""
    module = tvm.IRModule({"main": func.with_attrs({"global_symbol": "main", "target": _machine()})})
    return tvm.transform.Sequential([make() for make in _TO_LOOPS])(module)["main"]


# The beginning of TVM's lowering, without what is for speed.
_passes = s_tir.transform
_TO_LOOPS = (
    _passes.CanonicalizeLoop,
    _passes.LowerInitBlock,
    _passes.PlanAndUpdateBufferAllocationLocation,
    _passes.ConvertBlocksToOpaque,
    _passes.CompactBufferAllocation,
    _passes.LowerMatchBuffer,
    _passes.StmtSimplify,
    _passes.LowerOpaqueBlock,
    tirx.transform.FlattenBuffer,
)


def _machine() -> tvm.target.Target:
    from graphopt.codegen.targets import find_target

    # Each function runs a few times, on little data: optimising it would take most of the time of a check.
    return tvm.target.Target({**find_target("cpu").tvm_config(), "opt-level": 0})


def _on_tensors(function: Any) -> Callable[..., None]:
    def call(*arguments: torch.Tensor | int | float) -> None:
        function(*(tvm.runtime.from_dlpack(a) if isinstance(a, torch.Tensor) else a for a in arguments))

    return call


def _register() -> None:
    from tvm.tirx import compilation_pipeline

    if _PIPELINE in compilation_pipeline.PIPELINE_MAP:
        return

    def pipeline() -> tuple[Any, Any, Any]:
        passes = [
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
            tirx.transform.FP8StorageLegalize(),
            tirx.transform.BF16StorageLegalize(),
        ]

        @tvm.transform.module_pass(opt_level=0, name="GraphoptLowered")
        def run(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
            return tvm.transform.Sequential(passes)(mod)

        return run, compilation_pipeline.finalize_host_passes, compilation_pipeline.finalize_device_passes

    compilation_pipeline.register_tir_pipeline(_PIPELINE, pipeline)
