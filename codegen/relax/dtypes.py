"""torch dtypes as TVM writes them, and the groups that converters claim."""

from __future__ import annotations

import torch

from graphopt.errors import InputError

_NAMES: dict[torch.dtype, str] = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
}

FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8})
BOOL = frozenset({torch.bool})
NUMBERS = FLOATS | INTEGERS
ALL = NUMBERS | BOOL
BUT_BFLOAT16 = ALL - {torch.bfloat16}
"""For reductions of pairs: TVM 0.27 reads bfloat16 as its bits inside them."""
COMPLEX = frozenset({torch.complex64, torch.complex128})


def tvm_dtype(dtype: torch.dtype) -> str:
    """``torch.float32`` -> ``"float32"``.

    Raises:
        InputError: compiled code has no such type (complex, quantized, float8).
    """
    try:
        return _NAMES[dtype]
    except KeyError:
        raise InputError(f"compiled code cannot hold {dtype}", code="GO-3006") from None


def is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def arithmetic_dtype(dtype: str) -> str:
    """The type that values of ``dtype`` are computed in.

    Half types compute in float32 and round once, as torch's CPU kernels do.  Booleans compute in
    int8: LLVM rejects or misreads arithmetic and comparisons on one-bit operands.
    """
    if dtype in ("float16", "bfloat16"):
        return "float32"
    return "int8" if dtype == "bool" else dtype


def accumulator_dtype(dtype: str) -> str:
    """The type that sums of products of ``dtype`` are kept in before one final rounding."""
    if dtype in ("int8", "uint8", "int16", "bool"):
        return "int32"
    return arithmetic_dtype(dtype)
