"""Transpositions: the operand runs through memory along another axis than the result.

In the order of the result each element of the operand comes from a cache line of its own, which is gone
when its neighbour is wanted.  So both axes are cut, and one tile of the two is done before the next: it
reads each line once, and writes each once.  (Lam, Rothberg and Wolf, "The Cache Performance and
Optimizations of Blocked Algorithms", ASPLOS 1991.)
"""

from __future__ import annotations

from tvm import DataType, ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, static
from graphopt.codegen.schedules.cpu.parallel import parallelize
from graphopt.codegen.schedules.cpu.tiling import Registers, count
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.targets import Target

_LINE = 16  # elements of four bytes in a line of the cache
_SHORTEST = 4  # axes shorter than this stay in the line that they began with


def schedule_transposed(schedule: s_tir.Schedule, block: Block, target: Target, decisions: Decisions) -> bool:
    """Tiles a spatial block that reads some operand across its result; False where there is none."""
    column = block.last_written_axis()
    found = None if column is None else _across(block, column)
    if column is None or found is None:
        return False
    row, stride = found
    if not all(isinstance(block.axis_extent(a), ir.Var | tirx.IntImm) for a in (row, column)):
        return False  # TVM cannot part the last tile of a computed size from the others
    work = count([a.extent for a in block.axes])
    loops = block.loops
    others = [loop for position, loop in enumerate(loops) if position not in (row, column)]
    lanes = Registers.of(target).lanes
    # Lines a multiple of 2 KB apart share few sets of the first cache: half as many at once.
    width = _tile(block.axes[column].extent, lanes // 2 if stride and stride % 2048 == 0 else lanes)
    height = _tile(block.axes[row].extent, _LINE)
    rows, inner_row = schedule.split(loops[row], factors=[None, height])
    columns, inner_column = schedule.split(loops[column], factors=[None, width])
    schedule.reorder(*others, rows, columns, inner_row, inner_column)
    schedule.vectorize(inner_column)
    # A loop with a remainder stays on its own: only then can it be parted.
    shared = others if others else [rows]
    if others and _divides(height, block.axes[row].extent):
        shared = [*others, rows, *([columns] if _divides(width, block.axes[column].extent) else [])]
    parallelize(schedule, shared, target, decisions, work)
    return True


def _across(block: Block, column: int) -> tuple[int, int | None] | None:
    """The axis along which an operand runs through memory that runs across the result's ``column``.

    Returns:
        also the bytes from one column to the next in that operand, None where they are not known.
    """
    var, extent = block.axes[column].var, block.axes[column].extent
    for region in block.stmt.reads:
        indices, shape = block.indices(region), [static(n) for n in region.source.shape]
        if not indices or not block.uses(region, block.axes[column]):
            continue
        for position, axis in enumerate(block.axes):
            if position == column or not indices[-1].same_as(axis.var):
                continue
            if all(n is None or n >= _SHORTEST for n in (axis.extent, extent)):
                place = next((p for p, index in enumerate(indices) if index.same_as(var)), None)
                inner = None if place is None else count(shape[place + 1 :])
                return position, None if inner is None else inner * DataType(
                    str(region.source.dtype)
                ).itemsize
    return None


def _divides(size: int, extent: int | None) -> bool:
    return extent is not None and extent % size == 0


def _tile(extent: int | None, most: int) -> int:
    """The largest divisor that makes fair use of a line; else a line, and a remainder."""
    if extent is None:
        return most
    best = max(d for d in range(1, most + 1) if extent % d == 0)
    return best if 2 * best >= most or extent <= most else most
