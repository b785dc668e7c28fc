"""Which loops run on several cores."""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from graphopt.codegen.schedules.blocks import loop_extent
from graphopt.codegen.schedules.cpu.tiling import SERIAL_BELOW
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.targets import Target

# What a symbolic extent is taken for when cores are to be occupied; the first axis may well be one.
_SYMBOLIC_TRIPS = 64


def parallelize(
    schedule: s_tir.Schedule, loops: list[Any], target: Target, decisions: Decisions, work: int | None
) -> None:
    """Fuse just enough of the outer loops to occupy every core, and make them parallel.

    No more than that: the index of every fused loop costs a division a tile.

    Args:
        loops: outer loops, outermost first; the choice ``parallel`` is how many of them are fused, and 0
            leaves the function on one core.
        work: iterations of the whole function; too few are not worth a parallel region.
    """
    taken, trips = 0, 1
    while work_is_large(work) and taken < len(loops) and trips < 4 * target.cores:
        extent = loop_extent(schedule, loops[taken])
        trips *= extent if extent is not None else _SYMBOLIC_TRIPS if taken else 1
        taken += 1
    taken = decisions.choose("parallel", taken, range(len(loops) + 1))
    if taken:
        schedule.parallel(schedule.fuse(*loops[:taken]) if taken > 1 else loops[0])


def work_is_large(work: int | None) -> bool:
    """Whether so many iterations (None: a symbolic number) are worth a parallel region."""
    return work is None or work >= SERIAL_BELOW
