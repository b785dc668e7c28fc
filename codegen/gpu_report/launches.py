"""How kernels are launched: threads, blocks and shared memory, read off the code that TVM emits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

_BEFORE_PACKING = "tirx.MakePackedAPI"
_THREADS = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
_BLOCKS = ("blockIdx.x", "blockIdx.y", "blockIdx.z")


@dataclass(frozen=True)
class Launch:
    """One kernel.

    Attributes:
        threads: of a block along x, y and z.
        blocks: along x, y and z; expressions of the function's symbolic sizes.
        dynamic_shared: bytes of shared memory whose size is given at the launch.
    """

    threads: tuple[int, int, int]
    blocks: tuple[Any, Any, Any]
    dynamic_shared: int


@tvm.instrument.pass_instrument
class Launches:
    """Reads the kernels of the compilation that it watches, when host and device code are split.

    Attributes:
        by_kernel: launches by the kernels' names.
    """

    def __init__(self) -> None:
        self.by_kernel: dict[str, Launch] = {}

    def run_before_pass(self, mod: tvm.IRModule, info: Any) -> None:
        if info.name != _BEFORE_PACKING:
            return
        for var, func in mod.functions_items():
            if isinstance(func, tirx.PrimFunc) and "tirx.is_global_func" in (func.attrs or {}):
                launch = _read(func)
                if launch is not None:
                    self.by_kernel[str((func.attrs or {}).get("global_symbol", var.name_hint))] = launch


def _read(func: tirx.PrimFunc) -> Launch | None:
    extents: dict[str, Any] = {}
    shared = 0

    def attribute(node: Any) -> None:
        if str(node.attr_key) == "thread_extent":
            extents[str(node.node.thread_tag)] = node.value

    def allocation(node: Any) -> None:
        nonlocal shared
        buffer = node.buffer
        if buffer.scope() == "shared.dyn":
            size = int(tvm.DataType(str(buffer.dtype)).bits) // 8
            for extent in buffer.shape:
                size *= int(extent)
            shared += size

    tvm_ffi.structural_walk(func.body, [(tirx.AttrStmt, attribute), (tirx.AllocBuffer, allocation)])
    if not extents:
        return None
    x, y, z = (int(extents.get(axis, 1)) for axis in _THREADS)
    bx, by, bz = (extents.get(axis, 1) for axis in _BLOCKS)
    return Launch((x, y, z), (bx, by, bz), shared)
