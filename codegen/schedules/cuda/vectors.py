"""How many neighbouring elements a thread takes, and how its loops are unrolled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import ir, s_tir

from graphopt.codegen.schedules.blocks import Block, loop_extent

_BITS = 128
_IMAGE_AXES = 4


def bits_of(dtype: Any) -> int:
    """Bits of one element in memory; a boolean takes a byte."""
    return max(8, int(ir.PrimType(str(dtype)).dtype.bits))


def lanes_for(block: Block, extent: int | None) -> int:
    """Elements that a thread takes of an axis of the given extent (None: symbolic), 1 where none fit.

    For arithmetic on vectors: four are the most, since of eight halves TVM 0.27 writes no CUDA C++ once they
    are compared, converted or gathered, and none of conditions on booleans.  The widest type in memory
    counts.
    """
    if extent is None:
        return 1
    dtypes = [r.source.dtype for r in (*block.stmt.reads, *block.stmt.writes)]
    if any(str(dtype) == "bool" for dtype in dtypes):
        return 1
    widest = min(4, _BITS // max(map(bits_of, dtypes)))
    return next(v for v in (widest, 2, 1) if v <= widest and extent % v == 0)


def bind_elements(schedule: s_tir.Schedule, loops: Sequence[Any], threads: int) -> None:
    """Give each iteration of the loops to a thread, neighbours along the last loop to neighbours.

    The plane of an image of symbolic size is not fused with what is around it: TVM does not see through
    divisions by symbolic sizes.
    """
    outer = list(loops)
    if len(outer) == _IMAGE_AXES and any(loop_extent(schedule, x) is None for x in outer[1:]):
        batch, row, *outer = outer
        schedule.bind(batch, "blockIdx.z")
        schedule.bind(row, "blockIdx.y")
    fused = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
    grid, thread = schedule.split(fused, factors=[None, threads])
    schedule.bind(grid, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")


def unroll_in_nvcc(schedule: s_tir.Schedule, *loops: Any) -> None:
    """Have loops unrolled by nvcc (``#pragma unroll``): TVM would take its time over the long code."""
    for loop in loops:
        schedule.unroll(loop)
    schedule.annotate(loops[0], "pragma_unroll_explicit", 0)
