"""How many neighbouring elements a thread takes, and how its loops are unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import ir, s_tir

from graphopt.codegen.schedules.blocks import Block

_BITS = 128


def bits_of(dtype: Any) -> int:
    """Bits of one element in memory; a boolean takes a byte."""
    return max(8, int(ir.PrimType(str(dtype)).dtype.bits))


def lanes_for(block: Block, extent: int | None) -> int:
    """Elements that a thread takes of an axis of the given extent (None: symbolic), 1 where none fit.

    The widest type in memory counts.  Four are the most: of eight halves TVM 0.27 writes no CUDA C++ once
    they are compared, converted or gathered.
    """
    if extent is None:
        return 1
    dtypes = [r.source.dtype for r in (*block.stmt.reads, *block.stmt.writes)]
    widest = min(4, _BITS // max(map(bits_of, dtypes)))
    return next(v for v in (widest, 2, 1) if v <= widest and extent % v == 0)


def bind_elements(
    schedule: s_tir.Schedule, loops: Sequence[Any], threads: int, lanes: int
) -> tuple[Any, Any]:
    """Give ``lanes`` neighbours along the last loop to each thread; the loops over threads and over lanes."""
    *outer, last = loops
    last, lane = schedule.split(last, factors=[None, lanes])
    fused = schedule.fuse(*outer, last) if outer else last
    grid, thread = schedule.split(fused, factors=[None, threads])
    schedule.bind(grid, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return thread, lane


def unroll_in_nvcc(schedule: s_tir.Schedule, *loops: Any) -> None:
    """Have loops unrolled by nvcc (``#pragma unroll``): TVM would take its time over the long code."""
    for loop in loops:
        schedule.unroll(loop)
    schedule.annotate(loops[0], "pragma_unroll_explicit", 0)
