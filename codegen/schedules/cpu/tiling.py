"""Tile sizes, from the vector registers that a CPU has."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from graphopt.codegen.targets import Target

# A parallel region costs a few microseconds; less work than this is faster on one core.
SERIAL_BELOW = 1 << 15


@dataclass(frozen=True)
class Registers:
    """Vector registers of a CPU, in 32-bit lanes.

    Attributes:
        lanes: lanes of one register.
        accumulators: registers that a kernel may keep results in, a quarter being left for operands.
    """

    lanes: int
    accumulators: int

    @staticmethod
    def of(target: Target) -> Registers:
        many = "avx512f" in target.features or target.architecture != "x86_64"
        return Registers(target.vector_bits // 32, 24 if many else 12)

    def needed(self, width: int) -> int:
        """Registers that ``width`` lanes take."""
        return -(-width // self.lanes)


def vector_width(extent: int | None, registers: Registers) -> int:
    """How much of an axis to vectorise: whole registers, or a part of one.

    LLVM keeps neither in registers what is wider than one and not a power of two.  Sizes without a
    fair divisor, and symbolic ones, get a register and a guarded remainder.
    """
    lanes = registers.lanes
    if extent is None:
        return lanes
    if extent <= lanes:
        return extent
    for width in (2 * lanes, lanes):
        if extent % width == 0:
            return width
    best = max(w for w in _divisors(extent) if w <= lanes)
    return best if 3 * best >= lanes else lanes


def register_rows(extent: int | None, width: int, registers: Registers) -> int:
    """How many rows of ``width`` lanes to keep in registers; rows share the loads of the vector operand."""
    most = max(1, registers.accumulators // registers.needed(width))
    if extent is None:
        return min(most, 8)
    if extent <= most:
        return extent
    best = max(w for w in _divisors(extent) if w <= most)
    # A poor divisor (of a prime, say) wastes more than the remainder rows that it avoids.
    return best if 2 * best > min(most, 8) else min(most, 8)


@dataclass(frozen=True)
class PackedTile:
    """The tile of a product with packed weights: ``rows`` by ``columns``, a whole number of vectors.

    Attributes:
        rows: rows of the result that are computed together.
        columns: columns of a panel of weights.
    """

    rows: int
    columns: int

    @staticmethod
    def of(rows: int | None, columns: int, registers: Registers) -> PackedTile:
        """The tile that wastes least of the registers' work on a result of this size.

        A tile of ``r`` rows by ``v`` vectors does ``r v`` multiply-adds on ``r + v`` loads; rows and
        columns that the tile does not divide are computed for nothing.
        """
        best: tuple[float, PackedTile] | None = None
        all_registers = registers.accumulators * 4 // 3
        for lanes in (registers.lanes, registers.lanes // 2):
            for vectors in (1, 2, 3, 4):
                width = lanes * vectors
                # Beside the tile: a row of weights, and the element that it is multiplied by.
                for height in range(1, (all_registers - 1) // vectors):
                    if rows is None and height not in (4, 6, 8) or height > (rows or height):
                        continue
                    useful = columns / (-(-columns // width) * width)
                    if rows is not None:
                        useful *= rows / (-(-rows // height) * height)
                    work, loads = height * vectors, height + vectors
                    # A multiply-add has a latency of four or five: fewer chains leave gaps.
                    score = useful * work / (work + 0.5 * loads) * min(1.0, work / 8) * lanes**0.7
                    tile = PackedTile(height, width)
                    if best is None or score > best[0]:
                        best = score, tile
        assert best is not None
        return best[1]


def count(extents: list[int | None]) -> int | None:
    """Product of sizes; None when one is symbolic."""
    return None if None in extents else prod(e for e in extents if e is not None)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
