"""Building lowered functions for this machine's CPU, and calling them on torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import tvm
from tvm import tirx

_PIPELINE = "graphopt-lowered"


def build_on_cpu(functions: Mapping[str, tirx.PrimFunc]) -> dict[str, Callable[..., None]]:
    """Machine code of lowered functions: loops, flat buffers and scalars only.

    Returns:
        for each name a callable that takes one contiguous CPU tensor a buffer parameter and a number a
        scalar parameter, and writes its outputs in place.
    """
    _register()
    module = tvm.IRModule(
        {
            name: tirx.PrimFunc(f.params, f.body).with_attr("global_symbol", name)
            for name, f in functions.items()
        }
    )
    library = tirx.build(module, target=_machine(), pipeline=_PIPELINE)
    return {name: _on_tensors(library[name]) for name in functions}


def lower_for_cpu(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """An unscheduled function as serial loops over flat buffers, as :func:`build_on_cpu` takes it."""
    from graphopt.codegen.emulate.lowering import LoweredKernels

    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    module = tirx.transform.BindTarget(_machine().with_host(_machine()))(module)
    taken = LoweredKernels()
    options = {"tirx.disable_vectorize": True, "tirx.disable_storage_rewrite": True}
    with _machine(), tvm.transform.PassContext(opt_level=3, config=options, instruments=[taken]):
        tirx.get_tir_pipeline("s_tir")[0](module)
    return taken.functions["main"].emitted


def _machine() -> tvm.target.Target:
    from graphopt.codegen.targets import find_target

    return tvm.target.Target(find_target("cpu").tvm_config())


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
