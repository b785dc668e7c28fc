"""Tile sizes, from the vector registers that a CPU has."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

from graphopt.codegen.targets import Target

# Speed left when up to so many rows share a set of the first cache, which has 8 ways on most CPUs and
# through which the weights stream too (measured on 1x1 convolutions of 1024 and 2048 channels).
_CROWDING = ((5, 1.0), (7, 0.95))
_CACHE_LINE = 64
_CACHE_SETS = 64

# A parallel region costs a few microseconds; less work than this is faster on one core.
SERIAL_BELOW = 1 << 15


@dataclass(frozen=True)
class Registers:
    """Vector registers of a CPU, in 32-bit lanes.

    Attributes:
        lanes: lanes of one register.
        accumulators: registers that a kernel may keep results in, a quarter being left for operands.
        unit: lanes that a multiply-add unit takes at once; fewer than a register's where the CPU
            passes a register through it in two halves.
    """

    lanes: int
    accumulators: int
    unit: int

    @staticmethod
    def of(target: Target) -> Registers:
        many = "avx512f" in target.features or target.architecture != "x86_64"
        return Registers(target.vector_bits // 32, 24 if many else 12, target.fma_bits // 32)

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
    def of(
        rows: int | None, columns: int, registers: Registers, stride: int = 0, *, taps_share: bool = False
    ) -> PackedTile:
        """The tile that wastes least of the registers' work on a result of this size.

        A tile of ``r`` rows by ``v`` vectors does ``r v`` multiply-adds on ``r + v`` loads; rows and
        columns that the tile does not divide are computed for nothing.  Half vectors cost as much as
        whole ones where the units are as wide as the registers.

        Args:
            rows: None where the number is symbolic.
            columns: of the result.
            registers: of the CPU.
            stride: elements from one row of the left operand to the next, 0 where there is no one number.
                Rows a multiple of 4 KB apart compete for the same few lines of the first cache.
            taps_share: windows beside each other read the same elements, tap after tap in a row that LLVM
                unrolls.  It keeps one for each row of the tile, and would put sums into memory for them.
        """
        return PackedTile.scored(rows, columns, registers, stride, taps_share=taps_share)[1]

    @staticmethod
    def scored(
        rows: int | None,
        columns: int,
        registers: Registers,
        stride: int = 0,
        *,
        whole: bool = False,
        taps_share: bool = False,
    ) -> tuple[float, PackedTile]:
        """The tile of :meth:`of`, and what share of the units' peak it is estimated to reach.

        Args:
            whole: take only tiles whose rows divide ``rows``.
        """
        best: tuple[float, PackedTile] | None = None
        sets = _sets_reached(4 * stride)
        all_registers = registers.accumulators * 4 // 3
        for lanes in (registers.lanes, registers.lanes // 2):
            passes = max(1.0, lanes / registers.unit)
            rate = min(1.0, lanes / registers.unit)
            for vectors in range(1, 5 if lanes == registers.lanes else 6):
                width = lanes * vectors
                # Beside the tile: a row of weights, and the element that it is multiplied by.
                for height in range(1, (all_registers - 1) // vectors):
                    if rows is None and height not in (4, 5, 6, 8) or height > (rows or height):
                        continue
                    if taps_share and height > 1 and (height + 1) * vectors + height > all_registers:
                        continue
                    useful = columns / (-(-columns // width) * width)
                    if whole and rows is not None and rows % height:
                        continue
                    if rows is not None:
                        useful *= rows / (-(-rows // height) * height)
                    work, loads = height * vectors * passes, height + vectors * passes
                    # A multiply-add has a latency of four or five: fewer chains leave gaps.
                    full = min(1.0, height * vectors * passes / 8)
                    score = useful * rate**0.7 * full * work / (work + 0.5 * loads)
                    score *= next((share for most, share in _CROWDING if height <= most * sets), 0.8)
                    tile = PackedTile(height, width)
                    if best is None or score > best[0]:
                        best = score, tile
        assert best is not None
        return best


def _sets_reached(stride: int) -> int:
    """Sets of the first cache that addresses ``stride`` bytes apart fall into (0: an unknown stride)."""
    if stride == 0 or stride % _CACHE_LINE:
        return _CACHE_SETS
    return _CACHE_SETS // gcd(_CACHE_SETS, stride // _CACHE_LINE)


def count(extents: list[int | None]) -> int | None:
    """Product of sizes; None when one is symbolic."""
    return None if None in extents else prod(e for e in extents if e is not None)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
