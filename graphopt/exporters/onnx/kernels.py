"""The types that onnxruntime's kernels for the CPU take, where ONNX allows or a program needs more.

As onnxruntime 1.31 registers them; the tests compare this table with what it says of itself.
float16 is left out: onnxruntime converts it by itself where it has no kernel.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from onnx_ir import DataType


class Meaning(enum.Enum):
    """What an operator does to its values, which decides the types that can carry them.

    MOVES: results are operands, bit by bit.  ORDERS: it compares, so any type that keeps the order
    does.  COMPUTES: integers as integers, and a result that overflows wraps: a wider type, cut back, is
    the same, and a type of the same width with another sign is for all but quotients.
    """

    MOVES = 1
    ORDERS = 2
    COMPUTES = 3


@dataclass(frozen=True)
class Kernel:
    """What runs of an operator.

    Attributes:
        parameter: of its schema: the name of a type that operands and results share.
        types: with a kernel.
    """

    parameter: str
    meaning: Meaning
    types: frozenset[DataType]


_NAMES = {
    "b": DataType.BOOL,
    **{f"i{n}": DataType[f"INT{n}"] for n in (8, 16, 32, 64)},
    **{f"u{n}": DataType[f"UINT{n}"] for n in (8, 16, 32, 64)},
    "f32": DataType.FLOAT,
    "f64": DataType.DOUBLE,
}


def _rows(meaning: Meaning, rows: dict[str, str]) -> list[tuple[str, Kernel]]:
    """``{"Name Name:T1": "types"}``; a type parameter that is not named is T."""
    kernels = []
    for operators, types in rows.items():
        members = frozenset(_NAMES[name] for name in types.split())
        for operator in operators.split():
            name, _, parameter = operator.partition(":")
            kernels.append((name, Kernel(parameter or "T", meaning, members)))
    return kernels


_INTEGERS = "i8 i16 i32 i64 u8 u16 u32 u64"

_ROWS = [
    *_rows(
        Meaning.MOVES,
        {
            "Where": "i8 i32 i64 u8 u32 f32 f64",
            "Pad": "b i8 i32 i64 u8 u32 u64 f32 f64",
            "Trilu": "b i32 i64 f32 f64",
            "DepthToSpace SpaceToDepth": "i8 u8 f32 f64",
            "OneHot:T3": "i32 i64 f32",
            "Pow:T1": "i32 i64 f32 f64",
            "NonZero": "b i32 i64 u8 f32",
        },
    ),
    *_rows(
        Meaning.ORDERS,
        {
            "Max Min Clip": "i8 i32 i64 u8 u32 u64 f32 f64",
            "ReduceMax ReduceMin": "b i8 i32 i64 u8 f32 f64",
            "ArgMax ArgMin": "i8 i32 i64 u8 f32 f64",
            "TopK": "i8 i16 i32 i64 u8 f32 f64",
            "Less Greater LessOrEqual GreaterOrEqual": f"{_INTEGERS} f32 f64",
            "Equal": f"b {_INTEGERS} f32 f64",
            "Unique": "i8 i64 f32 f64",
            "MaxPool": "i8 u8 f32 f64",
            "Relu": "i8 i32 f32 f64",
        },
    ),
    *_rows(
        Meaning.COMPUTES,
        {
            "Add Sub Mul Div Mod Abs": f"{_INTEGERS} f32 f64",
            "Neg": "i8 i16 i32 i64 f32 f64",
            "MatMul CumProd": "i32 i64 u32 u64 f32 f64",
            "BitShift": "u8 u32 u64",
            "ReduceSum ReduceProd ReduceSumSquare CumSum Einsum Pow": "i32 i64 f32 f64",
        },
    ),
]

KERNELS: dict[str, tuple[Kernel, ...]] = {
    name: tuple(kernel for other, kernel in _ROWS if other == name) for name, _ in _ROWS
}
"""By operator.  Those that are not here have a kernel for every type, or nothing carries what they lack."""

BFLOAT16_KERNELS = frozenset(
    "Cast CastLike Concat Flatten Gather GatherElements GatherND Identity IsInf IsNaN Reshape "
    "ScatterElements ScatterND Shape Sign Slice Split Squeeze Transpose Unsqueeze".split()
)
"""Operators that take bfloat16."""

FLOAT8_KERNELS = frozenset(
    "Cast CastLike DequantizeLinear Identity IsInf IsNaN QuantizeLinear Reshape Shape Transpose".split()
)
"""Operators that take float8."""
