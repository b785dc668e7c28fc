"""Tiles of matrix products on a GPU: how much of the result a thread block and a warp compute.

A block of ``rows x columns`` results reads ``rows + columns`` operands a step of the depth, so large
tiles ask less of memory; small ones keep more multiprocessors busy and waste less at the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from math import ceil

from graphopt.codegen.targets import Target

GEMM_TILE = "graphopt.gemm_tile"
"""Annotation of a product's block: the fields of its :class:`GemmTile`."""

# Multiprocessors that small products should fill; an A100 has 108, an H100 132.
_MULTIPROCESSORS = 108
# What a symbolic size is taken to be.
_SYMBOLIC_SIZE = 512


@dataclass(frozen=True)
class Capability:
    """What a GPU architecture brings that schedules choose by.

    Attributes:
        version: the compute capability, 80 for sm_80.
    """

    version: int

    @staticmethod
    def of(target: Target) -> Capability | None:
        """That of the oldest architecture of a CUDA target; None for CPUs."""
        versions = [int(a.removeprefix("sm_")) for a in target.gpu_architectures]
        return Capability(min(versions)) if versions else None

    @property
    def async_copies(self) -> bool:
        """``cp.async`` from global to shared memory (PTX ISA: sm_80 and newer)."""
        return self.version >= 80

    def tensor_cores(self, dtype: str) -> bool:
        """Whether there are tensor cores for products of a type with float32 sums.

        float32 operands would be rounded to tf32 and are never taken.
        """
        return dtype == "float16" and self.version >= 75 or dtype == "bfloat16" and self.version >= 80


@dataclass(frozen=True)
class GemmTile:
    """The tile of a product ``[rows, depth] x [depth, columns]``.

    Attributes:
        rows, columns, depth: of a thread block; ``depth`` is a step of the reduction.
        warp_rows, warp_columns: how the warps (tensor cores) or threads (CUDA cores) of a block lie.
        stages: tiles of the operands in shared memory at a time.
        tensor_cores: products by tensor cores, sums in float32.
        transposed: the right operand lies as ``[columns, depth]``.
        left_vector, right_vector: elements that one load takes; 1 where sizes do not allow more.
        row_axes: axes of the result that the rows run through: 1, or 3 for (image, height, width).
    """

    rows: int
    columns: int
    depth: int
    warp_rows: int
    warp_columns: int
    stages: int
    tensor_cores: bool
    transposed: bool
    left_vector: int
    right_vector: int
    row_axes: int = 1

    def annotation(self) -> list[int]:
        """The form in which a block carries it."""
        return [int(v) for v in astuple(self)]

    @staticmethod
    def read(values: Sequence[int]) -> GemmTile:
        """The inverse of :meth:`annotation`."""
        v = [int(x) for x in values]
        if len(v) != len(fields(GemmTile)):
            raise ValueError(f"a tile has {len(fields(GemmTile))} numbers, not {len(v)}")
        return GemmTile(
            v[0], v[1], v[2], v[3], v[4], v[5], bool(v[6]), bool(v[7]), v[8], v[9], v[10]
        )  # fmt: skip

    @property
    def threads(self) -> int:
        """Threads of a block."""
        units = self.warp_rows * self.warp_columns
        return 32 * units if self.tensor_cores else units


@dataclass(frozen=True)
class _Shape:
    """A tile without the operands' properties, and how near its peak it runs, relative to the largest."""

    rows: int
    columns: int
    depth: int
    warp_rows: int
    warp_columns: int
    stages: int
    efficiency: float


_TENSOR_CORE_SHAPES = (
    _Shape(128, 128, 32, 2, 2, 3, 1.0),
    _Shape(128, 64, 32, 2, 2, 3, 0.85),
    _Shape(64, 128, 32, 2, 2, 3, 0.85),
    _Shape(64, 64, 32, 2, 2, 4, 0.65),
    _Shape(32, 64, 64, 1, 4, 3, 0.4),
    _Shape(16, 64, 64, 1, 4, 4, 0.25),
    _Shape(16, 32, 64, 1, 2, 4, 0.15),
    _Shape(16, 16, 128, 1, 1, 4, 0.1),
)
_CUDA_CORE_SHAPES = (
    _Shape(128, 128, 16, 16, 16, 3, 1.0),
    _Shape(128, 64, 16, 16, 8, 3, 0.9),
    _Shape(64, 64, 16, 16, 16, 3, 0.7),
    _Shape(32, 64, 16, 8, 16, 3, 0.5),
    _Shape(16, 64, 32, 4, 16, 3, 0.3),
)


def choose_tile(
    batch: int | None,
    rows: int | None,
    columns: int | None,
    depth: int | None,
    *,
    tensor_cores: bool,
    transposed: bool,
    left_vector: int,
    right_vector: int,
    row_axes: int = 1,
) -> GemmTile:
    """The tile with the least estimated time: work with its padding, over waves of full blocks.

    Args:
        batch, rows, columns, depth: of the product; None where symbolic.
    """

    def cost(shape: _Shape) -> float:
        tall, wide = rows or _SYMBOLIC_SIZE, columns or _SYMBOLIC_SIZE
        blocks = ceil(tall / shape.rows) * ceil(wide / shape.columns) * (batch or 1)
        waves = ceil(blocks / _MULTIPROCESSORS)
        deep = ceil((depth or _SYMBOLIC_SIZE) / shape.depth) * shape.depth
        return waves * shape.rows * shape.columns * deep / shape.efficiency

    shapes = _TENSOR_CORE_SHAPES if tensor_cores else _CUDA_CORE_SHAPES
    best = min(shapes, key=cost)
    return GemmTile(
        best.rows, best.columns, best.depth, best.warp_rows, best.warp_columns, best.stages,
        tensor_cores, transposed, left_vector, right_vector, row_axes,
    )  # fmt: skip
