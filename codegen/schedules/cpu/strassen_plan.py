"""Where Strassen's algorithm pays, and how a product is cut for it: a model of its cost in cycles.

Counted, for one core of those that share the work: multiply-adds, at the rate that a register tile reaches;
vector operations of the sums before and after; and bytes that come from beyond the second cache: weights,
7/4 times as many as of a plain product, and the sums of a block of rows where they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.codegen.schedules.cpu.tiling import PackedTile, Registers

# Multiply-add units of a core: two on every CPU that is aimed at.
_UNITS = 2
# Weights that are read once, in order: what is left of their transfer beside the products it overlaps.
_BYTES_PER_CYCLE = 10
# Sums of a block's rows beyond the second cache: written, and read again for each pair of panels.
_WRITTEN_PER_CYCLE, _READ_PER_CYCLE = 16, 64
# Half of a second cache, and the whole: weights, and sums, that are read again stay there if smaller.
_CACHED, _HELD = 1 << 19, 1 << 20
# More than this is not added to an artifact for one product.
_MOST_ADDED = 32 << 20
# Vector operations for a vector of each of the four parts: seven sums of the left operand, loaded and
# stored; and seven products stored, twelve times loaded, added and stored.
_BEFORE, _AFTER = 20, 50
# Nearer to the plain product than this is not worth the larger rounding errors and weights.
_WORTH = 0.96
# Rows of half a block, below which there is no point in more blocks; and how many more than needed are tried.
_FEWEST, _MORE = 24, 8
_MOST_BLOCKS = 32


@dataclass(frozen=True)
class Rows:
    """Rows of a product, as they lie in the left operand ``[*outer, lines, width, K]``.

    Attributes:
        outer: how many times there are ``lines``; 1 where the number is symbolic.
        lines: that are halved, to be the upper and lower rows of blocks.
        width: rows of one line.
    """

    outer: int
    lines: int
    width: int


@dataclass(frozen=True)
class StrassenPlan:
    """How a product is computed.

    Attributes:
        group: lines of a block's upper half, and of its lower one.
        blocks: of ``2 * group`` lines each, the last of which may reach over the end.
        tile: of the products; its rows divide those of ``group`` lines.
        cycles: estimated time on each core.
    """

    group: int
    blocks: int
    tile: PackedTile
    cycles: float


def plan_strassen(
    rows: Rows, depth: int, outputs: int, registers: Registers, cores: int
) -> StrassenPlan | None:
    """The fastest plan, if it pays against the plain product."""
    if depth % (2 * registers.lanes) or added_bytes(depth, outputs) > _MOST_ADDED:
        return None
    best = min(plans(rows, depth, outputs, registers, cores), key=lambda plan: plan.cycles)
    return best if best.cycles < _WORTH * plain_cycles(rows, depth, outputs, registers, cores) else None


def added_bytes(depth: int, outputs: int) -> int:
    """How much larger an artifact becomes: seven quarters of the weights instead of four."""
    return 3 * depth * outputs


def plain_cycles(rows: Rows, depth: int, outputs: int, registers: Registers, cores: int) -> float:
    """Estimated time of :func:`graphopt.codegen.relax.packed.packed_matmul` on each core."""
    tiled = rows.lines if rows.width == 1 else rows.width
    reached, _ = PackedTile.scored(tiled, outputs, registers, depth)
    work = rows.outer * rows.lines * rows.width * depth * outputs / (_UNITS * registers.unit * reached)
    return work / cores + 4 * depth * outputs / _BYTES_PER_CYCLE


def plans(rows: Rows, depth: int, outputs: int, registers: Registers, cores: int) -> Iterator[StrassenPlan]:
    """Ways to cut a product, at least one, with as few rows over the end as register tiles allow."""
    most = max(1, min(rows.lines * rows.width // (2 * _FEWEST), rows.lines, _MOST_BLOCKS))
    for wanted in range(1, most + 1):
        fewest = -(-rows.lines // (2 * wanted))
        for group in range(fewest, fewest + (_MORE if rows.width == 1 else 1)):
            blocks = -(-rows.lines // (2 * group))
            yield _plan(rows, group, blocks, depth, outputs, registers, cores)


def _plan(
    rows: Rows, group: int, blocks: int, depth: int, outputs: int, registers: Registers, cores: int
) -> StrassenPlan:
    height = group * rows.width
    reached, tile = PackedTile.scored(height, -(-outputs // 2), registers, whole=True)
    pairs = -(-outputs // (2 * tile.columns))
    passes = max(1.0, registers.lanes / registers.unit) / _UNITS  # cycles of a vector operation
    parts = height * outputs / 2
    work = (
        7 * parts * depth / 2 / (_UNITS * registers.unit * reached)
        + _AFTER * parts * passes / registers.lanes
    )
    before = _BEFORE * height * depth / 2 * passes / registers.lanes
    held = 4 * 7 * height * depth // 2
    if held > _HELD:
        before += held / _WRITTEN_PER_CYCLE
        work += pairs * held / _READ_PER_CYCLE
    weights = (4 * depth * outputs + added_bytes(depth, outputs)) / _BYTES_PER_CYCLE
    count = rows.outer * blocks
    if count == 1:
        cycles = work * -(-pairs // cores) / pairs + before / cores + weights
    else:
        rounds = -(-count // cores)  # of blocks, on the core that has most of them
        streams = rounds if weights * _BYTES_PER_CYCLE > _CACHED else 1
        cycles = rounds * (work + before) + streams * weights
    return StrassenPlan(group, blocks, tile, cycles)
