"""Kernel launches of a lowered function: which threads there are, what they run and what memory they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from graphopt.codegen.emulate.evaluate import Unknown, evaluate
from graphopt.codegen.rewrite import Expr, all_statements, bodies, op_name, variables
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
        fragments: m, n and k of the buffers that hold fragments of matrices.
    """

    name: str
    threads: tuple[int, int, int]
    grid: tuple[Expr, Expr, Expr]
    variables: dict[ir.Var, str]
    body: list[Any]
    allocations: list[ir.Var]
    fragments: dict[ir.Var, tuple[int, int, int]]

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
    fragments: dict[ir.Var, tuple[int, int, int]] = {}
    for inner in all_statements(stmt):
        if isinstance(inner, tirx.AllocBuffer):
            allocations.append(inner.buffer)
        if isinstance(inner, tirx.AttrStmt) and str(inner.attr_key) == "fragment_shape":
            m, n, k = (int(size) for size in str(inner.value.value).split(","))
            fragments[inner.node] = (m, n, k)
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
    return Launch(name, (x, y, z), grid, variables, [_explicit(stmt)], allocations, fragments)


_COMMIT, _WAIT, _IN_FLIGHT = "async_commit_queue_scope", "async_wait_queue_scope", "async_wait_inflight_count"
COMMIT_GROUP, WAIT_GROUP = "tirx.ptx.cp_async_commit_group", "tirx.ptx.cp_async_wait_group"


def _explicit(stmt: Any) -> Any:
    """``stmt`` with the attributes that TVM keeps asynchronous copies in as the instructions they become.

    A group is committed after the statements of its scope; one is waited for before the statements that
    need it, until no more than the attribute's number of later groups are in flight.
    """
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_explicit(s) for s in stmt.seq])
    if isinstance(stmt, tirx.AttrStmt):
        key = str(stmt.attr_key)
        if key == _COMMIT:
            commit = tirx.Evaluate(ir.Call(COMMIT_GROUP, [], ret_ty="int32"))
            return tirx.SeqStmt([_explicit(stmt.body), commit])
        if key == _WAIT and isinstance(stmt.body, tirx.AttrStmt) and str(stmt.body.attr_key) == _IN_FLIGHT:
            wait = tirx.Evaluate(ir.Call(WAIT_GROUP, [stmt.body.value], ret_ty="int32"))
            return tirx.SeqStmt([wait, _explicit(stmt.body.body)])
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, _explicit(stmt.body))
    if isinstance(stmt, tirx.For):
        return tirx.For(
            stmt.loop_var, stmt.min, stmt.extent, stmt.kind, _explicit(stmt.body), stmt.thread_binding,
            stmt.annotations,
        )  # fmt: skip
    if isinstance(stmt, tirx.While):
        return tirx.While(stmt.condition, _explicit(stmt.body))
    if isinstance(stmt, tirx.IfThenElse):
        other = None if stmt.else_case is None else _explicit(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, _explicit(stmt.then_case), other)
    return stmt


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


def grid_at(func: tirx.PrimFunc, launch: Launch, sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """Blocks of a launch along x, y and z at concrete sizes."""
    values = host_values(func, sizes)
    x, y, z = (int(evaluate(extent, values)) for extent in launch.grid)
    return x, y, z


def host_values(func: tirx.PrimFunc, sizes: Mapping[str, int]) -> dict[ir.Var, Any]:
    """Values of the symbolic sizes of a function, and of what its host code computes from them."""
    values: dict[ir.Var, Any] = {}
    for param in func.params:
        if not tirx.is_buffer_var(param):
            values[param] = sizes[str(param.name)]
            continue
        for extent in param.shape:
            for var in variables(extent):
                values[var] = sizes[str(var.name)]
    for stmt in all_statements(func.body):
        if isinstance(stmt, tirx.Bind):
            try:
                values[stmt.var] = evaluate(stmt.value, values)
            except Unknown:
                continue
    return values
