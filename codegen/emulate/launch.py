"""Kernel launches of a lowered function: which threads there are, what they run and what memory they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from graphopt.codegen.emulate.rewrite import Expr, all_statements, bodies, op_name, statements
from graphopt.errors import InternalError

WARP = 32
"""Threads of a warp, on every NVIDIA GPU."""

THREAD_TAGS = ("threadIdx.x", "threadIdx.y", "threadIdx.z")
BLOCK_TAGS = ("blockIdx.x", "blockIdx.y", "blockIdx.z")
_EXTENT = "thread_extent"


@dataclass(frozen=True)
class Launch:
    """One kernel launch.

    Attributes:
        name: the function's symbol, with the launch's number where there are several.
        threads: threads of a block along x, y and z.
        grid: blocks along x, y and z; expressions of the function's symbolic sizes.
        variables: the axis (``"threadIdx.x"``) behind each thread variable.
        body: what one thread runs.
        allocations: buffers on chip, in the order of their declaration.
    """

    name: str
    threads: tuple[int, int, int]
    grid: tuple[Expr, Expr, Expr]
    variables: dict[ir.Var, str]
    body: list[Any]
    allocations: list[ir.Var]

    @property
    def block_size(self) -> int:
        """Threads of a block."""
        x, y, z = self.threads
        return x * y * z

    @property
    def warps(self) -> int:
        """Warps of a block; the last one may be incomplete."""
        return -(-self.block_size // WARP)


def is_launch(stmt: Any) -> bool:
    """Whether a statement is a kernel launch or sets the extent of a thread axis inside one."""
    return isinstance(stmt, tirx.AttrStmt) and str(stmt.attr_key) == _EXTENT


def find_launches(func: tirx.PrimFunc) -> list[Launch]:
    """The launches of a lowered function, in order.

    Raises:
        InternalError: GO-1001, a thread axis with two extents, or with one that is not a number.
    """
    name = str(func.attrs["global_symbol"])
    found = _outermost(func.body)
    names = [name] if len(found) == 1 else [f"{name}.{i}" for i in range(len(found))]
    return [_launch(n, s) for n, s in zip(names, found, strict=True)]


def _outermost(stmt: Any) -> list[Any]:
    if is_launch(stmt):
        return [stmt]
    return [s for body in bodies(stmt) for s in _outermost(body)]


def _launch(name: str, stmt: Any) -> Launch:
    extents: dict[str, Expr] = {}
    variables: dict[ir.Var, str] = {}
    allocations: list[ir.Var] = []
    for inner in all_statements(stmt):
        if isinstance(inner, tirx.AllocBuffer):
            allocations.append(inner.buffer)
        if not is_launch(inner):
            continue
        tag = str(inner.node.thread_tag)
        known = extents.setdefault(tag, inner.value)
        if not tvm_ffi.structural_equal(known, inner.value):
            raise InternalError(f"kernel {name}: {tag} has the extents {known} and {inner.value}")
        variables[inner.node.var] = tag
    unknown = set(extents) - set(THREAD_TAGS) - set(BLOCK_TAGS)
    if unknown:
        raise InternalError(f"kernel {name}: thread axis {sorted(unknown)[0]} is not modelled")
    one = tirx.IntImm("int32", 1)
    sizes = []
    for tag in THREAD_TAGS:
        extent = extents.get(tag, one)
        if not isinstance(extent, tirx.IntImm):
            raise InternalError(f"kernel {name}: the extent of {tag} is {extent}, not a number")
        sizes.append(int(extent))
    x, y, z = sizes
    grid = (extents.get(BLOCK_TAGS[0], one), extents.get(BLOCK_TAGS[1], one), extents.get(BLOCK_TAGS[2], one))
    return Launch(name, (x, y, z), grid, variables, [stmt], allocations)


_BLOCK_SCOPES = frozenset({"shared", "shared.dyn", "global"})


def is_block_barrier(stmt: Any) -> bool:
    """Whether a statement is ``__syncthreads()``."""
    return _is_sync(stmt, _BLOCK_SCOPES)


def is_warp_barrier(stmt: Any) -> bool:
    """Whether a statement is ``__syncwarp()``."""
    return _is_sync(stmt, frozenset({"warp"}))


def _is_sync(stmt: Any, scopes: frozenset[str]) -> bool:
    if not isinstance(stmt, tirx.Evaluate) or op_name(stmt.value) != "tirx.tvm_storage_sync":
        return False
    return str(stmt.value.args[0].value) in scopes
