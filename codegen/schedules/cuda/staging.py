"""Copies of operand tiles to shared memory, by all threads of a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import ir, s_tir

from graphopt.codegen.schedules.blocks import Block, loop_extent, static
from graphopt.codegen.schedules.cuda.tiles import Capability, GemmTile
from graphopt.codegen.schedules.cuda.vectors import unroll_in_nvcc

SHARED = "shared.dyn"
"""Shared memory whose size is given at launch: the only one that may exceed 48 KiB."""


def bind_grid(schedule: s_tir.Schedule, rows: Any, columns: Any, lead: Sequence[Any]) -> None:
    """Give tiles to thread blocks: an axis of the grid each for rows, columns and batches.

    Fused into one axis they would cost divisions by symbolic sizes.  Rows may be many: only the first axis
    takes more than 65535 blocks.
    """
    schedule.bind(rows, "blockIdx.x")
    schedule.bind(columns, "blockIdx.y")
    if lead:
        schedule.bind(schedule.fuse(*lead) if len(lead) > 1 else lead[0], "blockIdx.z")


def stage_operand(
    schedule: s_tir.Schedule,
    block: Block,
    step: Any,
    vector: int,
    threads: Sequence[tuple[str, int]],
) -> None:
    """Turn a stage ``left`` or ``right`` into the copy of one tile to shared memory in each ``step``.

    Args:
        step: the loop over steps of the depth.
        vector: elements that a thread copies at once.
        threads: thread axes and their extents, outermost first.
    """
    schedule.set_scope(block.handle, 0, SHARED)
    schedule.compute_at(block.handle, step)
    fused = schedule.fuse(*schedule.get_loops(block.handle)[-2:])
    loops = schedule.split(fused, factors=[None, *(n for _, n in threads), vector])
    for loop, (axis, _) in zip(loops[1:-1], threads, strict=True):
        schedule.bind(loop, axis)
    if vector > 1:
        schedule.vectorize(loops[-1])
    unroll_in_nvcc(schedule, loops[0])


def pad_rows(schedule: s_tir.Schedule, block: Any, elements: int) -> None:
    """Make rows of a tile in shared memory longer, by as many elements as 16 bytes hold.

    Rows that a warp reads at a time then start in different banks, and stay aligned for 128-bit accesses.
    """
    schedule.storage_align(block, 0, axis=-2, factor=2 * elements, offset=elements)


def copies_in_words(stages: Sequence[Block], tile: GemmTile, capability: Capability | None) -> bool:
    """Whether both operands are copied as they are, in units that ``cp.async`` takes: 4, 8 or 16 bytes.

    What is computed on the way, such as a cast, goes through registers.  So do copies of a depth that is
    symbolic: how many copies are still under way has to be a constant in the code (PTX's wait_group).
    """
    if capability is None or not capability.async_copies:
        return False
    if static(stages[0].stmt.writes[0].source.shape[-1]) is None:
        return False
    for stage, vector in zip(stages, (tile.left_vector, tile.right_vector), strict=True):
        bits = ir.PrimType(str(stage.stmt.writes[0].source.dtype)).dtype.bits
        value = stage.stmt.body.value
        if isinstance(value, ir.Call) and str(value.op.name).endswith("if_then_else"):
            value = value.args[1]
        if vector * bits < 32 or not isinstance(value, ir.TensorLoad):
            return False
    return True


def pipeline(schedule: s_tir.Schedule, step: Any, tile: GemmTile, asynchronous: bool, parts: int) -> None:
    """Let copies run ahead of the products: by ``stages - 1`` steps, or one if they go through registers.

    Args:
        step: the loop over steps; its body is the two copies, and then ``parts`` other statements.
    """
    steps = loop_extent(schedule, step)
    if steps is None:
        # TVM puts the barrier after the first copy into a loop that may then run no time at all.
        return
    ahead = min(tile.stages - 1 if asynchronous else 1, steps - 1)
    if ahead == 0:
        return
    schedule.annotate(step, "software_pipeline_stage", [0, 0, *[ahead] * parts])
    schedule.annotate(step, "software_pipeline_order", list(range(2 + parts)))
    if asynchronous:
        schedule.annotate(step, "software_pipeline_async_stages", [0])
