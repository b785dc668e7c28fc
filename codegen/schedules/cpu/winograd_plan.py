"""Where Winograd's method pays, and how a convolution is cut for it: a model of its cost in cycles.

Three things are counted, for one core of those that share the work: multiply-adds of the products, at the
rate that a register tile reaches; vector operations of the transforms; and bytes of weights that come from
beyond the second cache, 16/9 or 4 times as many as of a direct convolution.  Constants are measured (Zen 4,
convolutions of ResNet-50); estimates there are within a fifth of the times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from graphopt.codegen.schedules.cpu.tiling import PackedTile, Registers
from graphopt.codegen.toom_cook import POINTS, TAPS, additions, transforms

# Multiply-add units of a core: two on every CPU that is aimed at.
_UNITS = 2
# Weights that are read once, in order: what is left of their transfer beside the products it overlaps.
_BYTES_PER_CYCLE = 16
# Half of a second cache.  What is read again stays there if it is smaller.
_CACHED = 1 << 19
# Errors are relative to the largest pixel of a tile.  A sum over few channels may be small where those beside
# it are large: of single convolutions with random weights on wide inputs, errors of F(4x4) reach 1.4 times
# what verification allows with 4 channels, and 0.93 times in 90 with 32 to 64; those of F(2x2) 0.2 times.
_FEWEST_CHANNELS = {2: 4, 4: 32}
# Nearer to the direct convolution than this is not worth the larger rounding errors.
_WORTH = 0.85


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of stride 1: channels in and out, height and width of the result."""

    channels: int
    outputs: int
    height: int
    width: int


@dataclass(frozen=True)
class WinogradPlan:
    """How a convolution is computed.

    Attributes:
        outputs: ``m`` of ``F(m x m, 3x3)``.
        band: rows of tiles whose transformed pixels are kept at once.
        bands: of an image; with one, cores share its columns instead.
        tile: of the products; its rows divide the tiles of a band.
        cycles: estimated time on each core.
    """

    outputs: int
    band: int
    bands: int
    tile: PackedTile
    cycles: float


def plan_winograd(convolution: Convolution, registers: Registers, cores: int) -> WinogradPlan | None:
    """The fastest plan, if it pays against the direct convolution."""
    if channel_vector(convolution.channels, registers) * 4 < registers.lanes:
        return None
    sizes = [m for m in POINTS if convolution.channels >= _FEWEST_CHANNELS[m]]
    plans = [plan for m in sizes for plan in _plans(m, convolution, registers, cores)]
    best = min(plans, key=lambda plan: plan.cycles, default=None)
    most = _WORTH * direct_cycles(convolution, registers, cores)
    return best if best is not None and best.cycles < most else None


def channel_vector(channels: int, registers: Registers) -> int:
    """Channels that the transform of the image takes at once."""
    return gcd(channels, registers.lanes)


def direct_cycles(convolution: Convolution, registers: Registers, cores: int) -> float:
    """Estimated time of :func:`graphopt.codegen.relax.packed.packed_conv2d` on each core."""
    c = convolution
    reached, _ = PackedTile.scored(c.width, c.outputs, registers, c.channels)
    taps = TAPS * TAPS * c.channels * c.outputs
    products = taps * c.height * c.width / (_UNITS * registers.unit * reached)
    return products / cores + 4 * taps / _BYTES_PER_CYCLE


def _plans(m: int, c: Convolution, registers: Registers, cores: int) -> Iterator[WinogradPlan]:
    size = m + TAPS - 1
    down, across = -(-c.height // m), -(-c.width // m)
    weights = 4 * size * size * c.channels * c.outputs
    for band in range(1, down + 1):
        bands = -(-down // band)
        held = 4 * size * size * band * across * c.channels
        if band > 1 and held > 2 * _CACHED:
            return
        reached, tile = PackedTile.scored(band * across, c.outputs, registers, c.channels, whole=True)
        multiplies = size * size * c.channels * c.outputs * band * across
        work = multiplies / (_UNITS * registers.unit * reached)
        work += band * across * _transform_cycles(m, c, registers)
        rounds = -(-bands // cores)  # of bands, on the core that has most of them
        streams = rounds if weights > _CACHED else 1
        if bands == 1:
            panels = -(-c.outputs // tile.columns)
            work *= -(-panels // cores) / panels
            streams = 1
        yield WinogradPlan(m, band, bands, tile, work * rounds + streams * weights / _BYTES_PER_CYCLE)


def _transform_cycles(m: int, c: Convolution, registers: Registers) -> float:
    """Transforming one tile, of all channels, and its results back."""
    size = m + TAPS - 1
    matrices = transforms(m)
    into = 2 * size * additions(matrices.input) + 2 * size * size  # and stores
    back = (size + m) * additions(matrices.output) + size * size
    vectors = into * c.channels / channel_vector(c.channels, registers) + back * c.outputs / registers.lanes
    return vectors * max(1.0, registers.lanes / registers.unit) / _UNITS
