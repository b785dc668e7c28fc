"""Spelling in C: names, numbers and types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from graphopt.codegen.csource.values import DType

# Words of C11 and of GNU C, names of <math.h>, and names that the files define themselves.
_RESERVED = frozenset(
    """
    asm auto bool break case char const continue default do double else enum extern false float for goto if
    inline int long register restrict return short signed sizeof static struct switch true typedef typeof
    union unsigned void volatile while errno main NULL NAN INFINITY HUGE_VAL unix linux
    abs acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 exp10 expm1 fabs
    fdim floor fma fmax fmin fmod frexp gamma hypot ilogb isfinite isinf isnan isnormal j0 j1 jn ldexp lgamma
    lrint lround log log10 log1p log2 logb modf nan nearbyint nextafter pow remainder remquo rint round scalb
    scalbn signbit sin sinh sqrt tan tanh tgamma trunc y0 y1 yn
    aligned_alloc calloc free malloc memcpy memset
    """.split()
)
_VECTOR_NAME = re.compile(r"[fiu](8|16|32|64)x\d+(_u)?|.*_t")
_C_TYPES = {
    "float16": "_Float16",
    "float32": "float",
    "float64": "double",
    "bool8": "uint8_t",
    "bfloat16": "uint16_t",
}


class Names:
    """Gives out names that are unique in one function, or in one file."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """``wanted``, changed as little as C and the names given out so far demand."""
        name = re.sub(r"\W", "_", wanted, flags=re.ASCII).strip("_") or "x"
        if name[0].isdigit():
            name = f"x{name}"
        if name in _RESERVED or name.rstrip("f") in _RESERVED or _VECTOR_NAME.fullmatch(name):
            name += "_"
        unique, number = name, 1
        while unique in self._taken:
            unique, number = f"{name}_{number}" if name[-1] != "_" else f"{name}{number}", number + 1
        self._taken.add(unique)
        return unique


def c_type(dtype: DType) -> str:
    """The type of one lane; a truth value is a byte that is 0 or 1."""
    name = f"{dtype.kind}{dtype.bits}"
    return _C_TYPES.get(name) or f"{name}_t"


def vector_type(dtype: DType) -> str:
    """The name that the prelude gives to a vector type."""
    return f"{dtype.kind[0]}{dtype.bits}x{dtype.lanes}"


def number(value: int | float, dtype: DType) -> str:
    """A literal that has exactly this value, and this type or one that C converts to it."""
    if dtype.kind == "float":
        return _float(float(value), dtype)
    value = int(value)
    if dtype.kind == "uint" and dtype.bits >= 32:
        return f"{value}u" if value < 1 << 32 else f"UINT64_C({value})"
    if value < -(1 << 31) or value >= 1 << 31:
        least = value == -(1 << 63)
        return "(-INT64_C(9223372036854775807) - 1)" if least else f"INT64_C({value})"
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def _float(value: float, dtype: DType) -> str:
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    if dtype.bits == 64:
        return repr(value)
    digits = np.format_float_positional(np.float32(value), unique=True, trim="0")
    if len(digits) > 16:
        digits = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return f"(_Float16){digits}f" if dtype.bits == 16 else f"{digits}f"
