"""The code that TVM emits for a GPU, taken where it is last one function.

Kernels are read when thread extents, barriers (``tvm_storage_sync``), shuffles and asynchronous copies are
explicit, and a function with all of its launches is still in one piece.  An instrument takes them out of the
compilation whose output the artifact holds, so what is checked is what is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from graphopt.codegen.targets import Target

_MERGE, _SPLIT = "s_tir.MergeSharedMemoryAllocations", "tirx.SplitHostDevice"


@dataclass(frozen=True)
class LoweredFunction:
    """A GPU function at the end of TVM's lowering.

    Attributes:
        emitted: as it is before host and device code are split; its dynamic shared memory is one
            allocation, in which buffers overlap that TVM takes to live at different times.
        separate: the same before that, each buffer with an allocation and a size of its own.
    """

    emitted: tirx.PrimFunc
    separate: tirx.PrimFunc


@tvm.instrument.pass_instrument
class LoweredKernels:
    """Keeps the lowered TensorIR functions of the compilation that it watches.

    Attributes:
        functions: by global symbol.
    """

    def __init__(self) -> None:
        self.functions: dict[str, LoweredFunction] = {}
        self._separate: dict[str, tirx.PrimFunc] = {}

    def run_before_pass(self, mod: tvm.IRModule, info: Any) -> None:
        if info.name not in (_MERGE, _SPLIT):
            return
        # Held here, the functions are not rewritten in place by the passes that follow.
        for _, func in mod.functions_items():
            if not isinstance(func, tirx.PrimFunc) or "global_symbol" not in (func.attrs or {}):
                continue
            name = str(func.attrs["global_symbol"])
            if info.name == _MERGE:
                self._separate[name] = func
            else:
                self.functions[name] = LoweredFunction(func, self._separate[name])


def lower_kernel(
    func: tirx.PrimFunc, target: Target, config: Mapping[str, Any] | None = None
) -> LoweredFunction:
    """A scheduled function as TVM emits it for a GPU.

    Args:
        config: options of TVM's passes; those that :func:`graphopt.codegen.compile` uses if None.
    """
    from graphopt.codegen.compiler import lowering_context

    machine = tvm.target.Target(target.tvm_config())
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    module = tirx.transform.BindTarget(machine.with_host(machine.host))(module)
    taken = LoweredKernels()
    context = lowering_context(target, [taken])
    if config is not None:
        context = tvm.transform.PassContext(opt_level=3, config=dict(config), instruments=[taken])
    with machine, context:
        tirx.get_tir_pipeline("s_tir")[0](module)
    return taken.functions["main"]
