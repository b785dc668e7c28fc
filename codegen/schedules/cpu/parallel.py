"""Which loops run on several cores."""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from graphopt.codegen.schedules.blocks import loop_extent
from graphopt.codegen.targets import Target

# What a symbolic extent is taken for when cores are to be occupied; the first axis may well be one.
_SYMBOLIC_TRIPS = 64


def parallelize(schedule: s_tir.Schedule, loops: list[Any], target: Target) -> None:
    """Fuse just enough of the outer loops to occupy every core, and make them parallel.

    No more than that: the index of every fused loop costs a division a tile.
    """
    taken, trips = 0, 1
    while taken < len(loops) and trips < 4 * target.cores:
        extent = loop_extent(schedule, loops[taken])
        trips *= extent if extent is not None else _SYMBOLIC_TRIPS if taken else 1
        taken += 1
    schedule.parallel(schedule.fuse(*loops[:taken]) if taken > 1 else loops[0])
