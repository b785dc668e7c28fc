"""What a kernel may use of a GPU, by compute capability.

Source: NVIDIA, *CUDA C++ Programming Guide*, "Compute Capabilities", tables of technical
specifications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.accesses import lanes
from graphopt.codegen.emulate.intrinsics import is_collective
from graphopt.codegen.emulate.launch import WARP, Launch
from graphopt.codegen.emulate.memory import bytes_of, elements
from graphopt.codegen.rewrite import Expr, all_statements, loads, own_expressions, walk

THREADS_PER_BLOCK = 1024
THREADS_ALONG = (1024, 1024, 64)
BLOCKS_ALONG = (2**31 - 1, 65535, 65535)
STATIC_SHARED_BYTES = 48 * 1024
REGISTERS_PER_THREAD = 255
REGISTERS_PER_BLOCK = 65536
VECTOR_BYTES = 16
"""The widest access of one thread (``ld.global.v4.b32``)."""

_SHARED_KIB = {
    "sm_75": 64,
    "sm_80": 163,
    "sm_86": 99,
    "sm_87": 163,
    "sm_89": 99,
    "sm_90": 227,
    "sm_100": 227,
    "sm_120": 99,
}


def shared_bytes(architecture: str) -> int:
    """Most shared memory of a block, in bytes, when the launch opts in to more than 48 KiB."""
    return _SHARED_KIB[architecture] * 1024


@dataclass(frozen=True)
class Resources:
    """What a launch uses.

    Attributes:
        threads: of a block.
        static_shared, dynamic_shared: bytes of a block.
        registers: of 32 bits, that the buffers of one thread fill; what the compiler adds is not known.
    """

    threads: int
    static_shared: int
    dynamic_shared: int
    registers: int


def resources(launch: Launch) -> Resources:
    """What a launch uses; buffers of symbolic size count nothing here (they are not modelled)."""
    static = dynamic = private = 0
    for buffer in launch.allocations:
        size = (elements(buffer) or 0) * bytes_of(str(buffer.dtype))
        scope = str(buffer.scope())
        if scope == "shared":
            static += size
        elif scope == "shared.dyn":
            dynamic += size
        elif scope.startswith("wmma"):
            private += size // WARP
        elif scope == "warp":
            private += size // WARP
        else:
            private += size
    return Resources(launch.block_size, static, dynamic, -(-private // 4))


def exceeded(launch: Launch, grid: tuple[int, int, int], architecture: str) -> list[str]:
    """Every limit of the architecture that a launch exceeds, in words."""
    used = resources(launch)
    found = []

    def limit(what: str, value: int, most: int) -> None:
        if value > most:
            found.append(f"{what}: {value:,}, at most {most:,} on {architecture}")

    limit("threads of a block", used.threads, THREADS_PER_BLOCK)
    for axis, (threads, blocks) in enumerate(zip(launch.threads, grid, strict=True)):
        limit(f"threads of a block along {'xyz'[axis]}", threads, THREADS_ALONG[axis])
        limit(f"blocks along {'xyz'[axis]}", blocks, BLOCKS_ALONG[axis])
    limit("bytes of static shared memory", used.static_shared, STATIC_SHARED_BYTES)
    limit("bytes of shared memory", used.static_shared + used.dynamic_shared, shared_bytes(architecture))
    limit("registers of a thread", used.registers, REGISTERS_PER_THREAD)
    limit("registers of a block", used.registers * used.threads, REGISTERS_PER_BLOCK)
    if _has_collectives(launch) and used.threads % WARP:
        found.append(f"operations of whole warps in blocks of {used.threads} threads, no multiple of {WARP}")
    return found + _wide_accesses(launch)


def _has_collectives(launch: Launch) -> bool:
    return any(
        is_collective(n) for s in all_statements(launch.body[0]) for e in own_expressions(s) for n in walk(e)
    )


def _wide_accesses(launch: Launch) -> list[str]:
    """Contiguous vector accesses wider than a thread can make."""
    found: dict[str, None] = {}

    def note(buffer: Any, index: Expr) -> None:
        dtype = str(buffer.dtype)
        contiguous = not isinstance(index, prim.Ramp) or _is_one(index.stride)
        width = bytes_of(dtype) * (lanes(index) if contiguous else 1)
        if width > VECTOR_BYTES and str(buffer.scope()) not in ("local", ""):
            found[
                f"an access of {width} bytes to {buffer.name}, at most {VECTOR_BYTES} in one instruction"
            ] = None

    for stmt in all_statements(launch.body[0]):
        if isinstance(stmt, tirx.BufferStore):
            note(stmt.buffer, stmt.indices[-1])
        for expr in own_expressions(stmt):
            for load in loads(expr):
                note(load.source, load.indices[-1])
    return list(found)


def _is_one(value: Expr) -> bool:
    return isinstance(value, prim.IntImm) and int(value) == 1


def grid_sizes(launch: Launch, evaluate: Any) -> tuple[int, int, int]:
    """The grid at concrete sizes; ``evaluate`` gives the value of an expression of them."""
    x, y, z = (int(np.asarray(evaluate(e))) for e in launch.grid)
    return x, y, z
