"""Run-time checks that the serial form of a kernel makes of its own memory accesses.

Each access of the kernel that is not proven to be inside its buffer is checked before it happens, and
moved into the buffer if it is not, so that a wrong schedule neither crashes nor spoils other memory.
Accesses to global memory also leave the name of the thread that wrote an element last: a kernel in
which two threads write different values to one element, or one reads what another writes, depends on
the order in which the GPU happens to run them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import ir, sym, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.rewrite import Expr, operands, with_operands

FIELDS = 4
"""Numbers kept of a fault: how many times it happened; the index, block and thread of the last."""


_LONGEST = 160


@dataclass(frozen=True)
class Site:
    """A place in a kernel at which something can go wrong.

    Attributes:
        kind: ``"bounds"``, ``"alignment"`` or ``"race"``.
        buffer: name of the buffer.
        node: the load or the store.
        size: elements of the buffer, where they are a number.
    """

    kind: str
    buffer: str
    node: Any
    size: int | None

    @property
    def access(self) -> str:
        """The access as text."""
        line = str(self.node).strip().splitlines()[-1].strip()
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def true() -> Expr:
    return prim.IntImm("bool", 1)


def conjunction(conditions: list[Expr]) -> Expr:
    result = true()
    for i, condition in enumerate(conditions):
        result = prim.And(result, condition) if i else condition
    return result


def lane(index: Expr, number: int) -> Expr:
    """Element ``number`` of a vector expression; a scalar is itself."""
    if isinstance(index, prim.Ramp):
        return index.base + index.stride * prim.IntImm(index.base.ty, number)
    if isinstance(index, prim.Broadcast):
        return index.value
    if lanes(index) == 1:
        return index
    if isinstance(index, prim.Cast):
        return prim.Cast(str(index.ty).split("x")[0], lane(index.value, number))
    return with_operands(index, [lane(o, number) for o in operands(index)])


def lanes(expr: Expr) -> int:
    """Elements of a vector expression; 1 for a scalar."""
    return int(expr.ty.dtype.lanes)


class FaultLog:
    """Emits checks into a function and knows what each of their records means.

    Attributes:
        sites: the places that are checked.
        buffer: the function's parameter that takes the records, ``FIELDS`` int64 a site.
    """

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.size = tirx.Var("fault_fields", "int64")
        self.buffer = tirx.decl_buffer((self.size,), "int64", name="faults")

    def check(self, site: Site, bad: Expr, index: Expr, block: Expr, thread: Expr) -> Any:
        """A statement that records a fault where ``bad`` holds."""
        at = FIELDS * len(self.sites)
        self.sites.append(site)

        def field(offset: int) -> Expr:
            return prim.IntImm("int64", at + offset)

        count = tirx.BufferLoad(self.buffer, [field(0)]) + prim.IntImm("int64", 1)
        values = [count, index, block, thread]
        stores = [
            tirx.BufferStore(self.buffer, v if str(v.ty) == "int64" else prim.Cast("int64", v), [field(i)])
            for i, v in enumerate(values)
        ]
        return tirx.IfThenElse(bad, tirx.SeqStmt(stores), None)


class Ranges:
    """What is known of integer variables: loop and thread extents, and definitions."""

    def __init__(self) -> None:
        self._analyzer = sym.Analyzer()

    def extent(self, var: ir.Var, minimum: Expr, extent: Expr) -> None:
        """``var`` runs over ``extent`` values from ``minimum``."""
        self._analyzer.bind(var, ir.Range(minimum, minimum + extent), allow_override=True)

    def define(self, var: ir.Var, value: Expr) -> None:
        """``var`` is ``value``."""
        if "int" in str(value.ty):
            for known in (self._analyzer.const_int_bound(value), self._analyzer.modular_set(value)):
                self._analyzer.update(var, known, override=True)

    def inside(self, index: Expr, size: Expr) -> bool:
        """Whether ``0 <= index < size`` is known to hold, for every lane of a vector."""
        if not isinstance(size, prim.IntImm):
            return False
        ends = [index] if lanes(index) == 1 else [lane(index, 0), lane(index, lanes(index) - 1)]
        if lanes(index) > 1 and not isinstance(index, prim.Ramp | prim.Broadcast):
            return False
        for end in ends:
            bound = self._analyzer.const_int_bound(end)
            if bound.min_value < 0 or bound.max_value >= int(size):
                return False
        return True

    def divided(self, expr: Expr, of: Sequence[Expr]) -> Expr:
        """``expr``, a floor division or its remainder, of other operands.

        They become the machine's division, which rounds towards zero: TVM takes up to a minute for a kernel
        to find out where the two are the same.
        """
        dividend, divisor = of
        if lanes(dividend) > 1 or self._analyzer.const_int_bound(divisor).min_value <= 0:
            return with_operands(expr, of)
        quotient, rest = prim.Div(dividend, divisor), prim.Mod(dividend, divisor)
        wanted = quotient if isinstance(expr, prim.FloorDiv) else rest
        if self._analyzer.const_int_bound(dividend).min_value >= 0:
            return wanted
        zero, one = prim.IntImm(str(rest.ty), 0), prim.IntImm(str(rest.ty), 1)
        below = quotient - one if isinstance(expr, prim.FloorDiv) else rest + divisor
        return prim.Select(rest < zero, below, wanted)

    def simplify(self, expr: Expr) -> Expr:
        return self._analyzer.simplify(expr)
