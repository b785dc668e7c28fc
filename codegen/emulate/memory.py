"""Where the serial form keeps the memory of a kernel.

Shared memory is one array a block.  Memory of a thread or a warp outlives the loop over threads in
which it was written, so it is an array with a part for each.  All are filled before a block starts:
with NaN, or large numbers that no kernel makes, because the memory of a GPU is not empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.launch import WARP, Launch
from graphopt.codegen.rewrite import Expr


class NotModelled(Exception):
    """A kernel does something that the serial form cannot express; the message says what."""


@dataclass(frozen=True)
class Storage:
    """The array behind a buffer of the kernel.

    Attributes:
        array: all of it.
        size: elements that one owner has.
        owner: ``"block"``, ``"warp"`` or ``"thread"``.
        scope: TVM's storage scope of the buffer.
    """

    array: ir.Var
    size: int
    owner: str
    scope: str


class Memory:
    """On-chip memory of one launch: the kernel's own buffers, and scratch for its serial form."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self.of: dict[ir.Var, Storage] = {b: self._storage(b) for b in launch.allocations}

    def _storage(self, buffer: ir.Var) -> Storage:
        scope = str(buffer.scope())
        size = elements(buffer)
        if size is None:
            raise NotModelled(f"on-chip buffer {buffer.name} of a size that is not a number")
        if scope.startswith("shared"):
            owner, copies = "block", 1
        elif scope == "warp" or scope.startswith("wmma"):
            owner, copies = "warp", self._launch.warps
        elif scope in ("local", ""):
            owner, copies = "thread", self._launch.block_size
        else:
            raise NotModelled(f"memory of scope {scope!r} inside a kernel")
        array = tirx.decl_buffer((integer(size * copies),), str(buffer.dtype), name=f"{buffer.name}_all")
        return Storage(array, size, owner, scope)

    def scratch(self, dtype: str, name: str, per_thread: int = 1, *, zero: bool = False) -> ir.Var:
        """An array with elements for each lane of each warp, indexed by the number of the thread.

        Args:
            per_thread: elements of a thread.
            zero: start with zeros, not with what no kernel should read.
        """
        size = self._launch.warps * WARP * per_thread
        buffer = tirx.decl_buffer((integer(size),), dtype, name=name)
        self.of[buffer] = Storage(buffer, size, "block", "zero" if zero else "scratch")
        return buffer

    def allocations(self) -> list[Any]:
        """Statements that allocate all arrays."""
        return [tirx.AllocBuffer(s.array) for s in self.of.values()]

    def poison(self) -> list[Any]:
        """Statements that fill all arrays with what no kernel should read."""
        return [
            filled(s.array, 0 if s.scope == "zero" else _poison(str(s.array.dtype))) for s in self.of.values()
        ]


def elements(buffer: ir.Var) -> int | None:
    """Number of elements of a buffer; None if it is symbolic."""
    count = 1
    for extent in buffer.shape:
        if not isinstance(extent, prim.IntImm):
            return None
        count *= int(extent)
    return count


def bytes_of(dtype: str) -> int:
    """Size of one element of a TVM dtype, vectors included."""
    scalar, _, count = dtype.partition("x")
    if scalar == "bool":
        return int(count or 1)
    bits = "".join(c for c in scalar if c.isdigit())
    return -(-int(bits) * int(count or 1) // 8)


def integer(value: int, dtype: Any = "int32") -> Expr:
    """An integer constant."""
    return prim.IntImm(str(dtype), value)


def filled(buffer: ir.Var, value: float) -> Any:
    """A statement that sets every element of a one-dimensional buffer."""
    (extent,) = buffer.shape
    at = tirx.Var("at", extent.ty)
    store = tirx.BufferStore(buffer, constant(str(buffer.dtype), value), [at])
    return tirx.For(at, integer(0, extent.ty), extent, tirx.ForKind.SERIAL, store)


def constant(dtype: str, value: float) -> Expr:
    """A constant of a scalar or vector dtype."""
    scalar, _, lanes = dtype.partition("x")
    made: Expr
    if scalar == "bool" or "int" in scalar:
        made = prim.IntImm(scalar, int(value))
    else:
        made = prim.FloatImm(scalar, float(value))
    return prim.Broadcast(made, int(lanes)) if lanes else made


def undefined(dtype: str) -> Expr:
    """What stands for a value that no kernel should use."""
    return constant(dtype, _poison(dtype))


def _poison(dtype: str) -> float:
    scalar = dtype.partition("x")[0]
    if scalar == "bool":
        return 1
    if "int" in scalar:
        return int(np.iinfo(scalar).max) // 3
    return float("nan")
