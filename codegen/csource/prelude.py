"""What kernels need before they start: vector types, and functions on vectors, as far as they are used."""

from __future__ import annotations

from graphopt.codegen.csource.text import c_type, vector_type
from graphopt.codegen.csource.values import DType


class Prelude:
    """Collects the types and helpers that the kernels of one file use."""

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._functions: dict[str, str] = {}

    def text(self) -> str:
        """The declarations, those that others use first."""
        return "\n".join([*self._types.values(), "", *self._functions.values()]).strip() + "\n"

    def vector(self, dtype: DType) -> str:
        """A vector type, and beside it the same for memory that is aligned for its elements only."""
        name = vector_type(dtype)
        size = dtype.lanes * dtype.bits // 8
        scalar = c_type(dtype)
        self._types.setdefault(
            name,
            f"typedef {scalar} {name} __attribute__((vector_size({size})));\n"
            f"typedef {scalar} {name}_u __attribute__((vector_size({size}), aligned({dtype.bits // 8})));",
        )
        return name

    def select(self, dtype: DType) -> str:
        """Lanes of one vector where the mask is -1, else those of the other."""
        vector, mask = self.vector(dtype), self.vector(_mask(dtype))
        return self._define(
            f"select_{vector}",
            f"{vector} select_{vector}({mask} where, {vector} a, {vector} b) {{",
            f"  return ({vector})((where & ({mask})a) | (~where & ({mask})b));",
        )

    def extremum(self, op: str, dtype: DType) -> str:
        """``min`` or ``max``; where a NaN is compared, the second operand."""
        vector, select = self.vector(dtype), self.select(dtype)
        relation = "<" if op == "min" else ">"
        return self._define(
            f"{op}_{vector}",
            f"{vector} {op}_{vector}({vector} a, {vector} b) {{",
            f"  return {select}(a {relation} b, a, b);",
        )

    def reinterpret(self, source: DType, result: DType) -> str:
        """The bits of a scalar as another type."""
        a, b = c_type(source), c_type(result)
        name = f"bits_{a.removesuffix('_t').strip('_')}_as_{b.removesuffix('_t').strip('_')}"
        return self._define(
            name,
            f"{b} {name}({a} x) {{",
            f"  {b} y;",
            "  memcpy(&y, &x, sizeof y);",
            "  return y;",
        )

    def bfloat16(self, result: DType) -> str:
        """From or to bfloat16, which is the upper half of a float; rounds to the nearest, ties to even."""
        if result.kind == "bfloat":
            return self._define(
                "float_to_bfloat16",
                "uint16_t float_to_bfloat16(float x) {",
                "  uint32_t bits;",
                "  memcpy(&bits, &x, sizeof bits);",
                "  if (x != x)",
                "    return 0x7fc0;",
                "  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);",
            )
        return self._define(
            "bfloat16_to_float",
            "float bfloat16_to_float(uint16_t x) {",
            "  const uint32_t bits = (uint32_t)x << 16;",
            "  float y;",
            "  memcpy(&y, &bits, sizeof y);",
            "  return y;",
        )

    def function(self, function: str, dtype: DType, arity: int) -> str:
        """A function of C's library on each lane."""
        vector = self.vector(dtype)
        name = f"{function}_{vector}"
        if function in ("floor", "floorf"):
            return self._floor(name, dtype)
        if function in ("fabs", "fabsf"):
            mask = self.vector(_mask(dtype))
            largest = f"INT{dtype.bits}_MAX"
            return self._define(
                name, f"{vector} {name}({vector} x) {{", f"  return ({vector})(({mask})x & {largest});"
            )
        parameters = ["x", "y", "z"][:arity]
        return self._define(
            name,
            f"{vector} {name}({', '.join(f'{vector} {p}' for p in parameters)}) {{",
            f"  {vector} result;",
            f"  for (int lane = 0; lane < {dtype.lanes}; ++lane)",
            f"    result[lane] = {function}({', '.join(f'{p}[lane]' for p in parameters)});",
            "  return result;",
        )

    def _floor(self, name: str, dtype: DType) -> str:
        """Through integers, since CPUs without an instruction for it would call a function for each lane."""
        vector, mask = self.vector(dtype), self.vector(_mask(dtype))
        select = self.select(dtype)
        # From here on every number is an integer.
        limit = {16: "1024.0f", 32: "8388608.0f", 64: "4503599627370496.0"}[dtype.bits]
        return self._define(
            name,
            f"{vector} {name}({vector} x) {{",
            f"  const {mask} small = (x > -{limit}) & (x < {limit});",
            f"  const {mask} whole = __builtin_convertvector({select}(small, x, ({vector}){{0}}), {mask});",
            f"  const {vector} near = __builtin_convertvector(whole, {vector});",
            f"  const {vector} below = near + __builtin_convertvector(near > x, {vector});",
            f"  return {select}(small & (below != x), below, x);",
        )

    def _define(self, name: str, head: str, *body: str) -> str:
        self._functions.setdefault(name, "\n".join([f"INLINE {head}", *body, "}", ""]))
        return name


def _mask(dtype: DType) -> DType:
    return dtype._replace(kind="int")
