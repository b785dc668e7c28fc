"""Elementwise blocks whose threads load and store vectors, and compute on scalars in between.

TVM 0.27 writes no valid CUDA C++ for much of the arithmetic on vectors: comparisons and conversions of eight
halves, conditions on booleans, gathers.  Copies of vectors it writes well, up to 128 bits.  So each operand
that neighbouring elements read side by side is copied to registers as a vector, the arithmetic runs on
its elements, and the results leave as a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.rewrite import op_name, operands, rewrite
from graphopt.codegen.schedules.blocks import Block, mentions, static
from graphopt.codegen.schedules.cuda.vectors import bits_of

_BITS = 128
_MOST = 8
"""Elements of a thread; more of a narrow type would leave too few threads."""


@dataclass(frozen=True)
class Access:
    """A block's accesses to vectors.

    Attributes:
        lanes: elements of a vector.
        loads: one for each operand that is copied as a vector.
    """

    lanes: int
    loads: tuple[Any, ...]


@dataclass(frozen=True)
class Pieces:
    """Names of the blocks that an elementwise block became: copies, arithmetic, and the store."""

    loads: tuple[str, ...]
    compute: str
    store: str


def wide_access(block: Block) -> Access | None:
    """How the block may access vectors along its last axis; None where it may not.

    It has to store one element along that axis, whose size is a known multiple of a vector's.
    """
    store = block.stmt.body
    if not isinstance(store, tirx.BufferStore) or not block.axes or block.stmt.init is not None:
        return None
    axis, extent = block.axes[-1].var, block.axes[-1].extent
    if extent is None or not store.indices[-1].same_as(axis):
        return None
    if any(mentions(i, axis) for i in store.indices[:-1]) or not _copied_well(store.buffer.dtype):
        return None
    side_by_side = [load for load in _unconditional_loads(store.value) if _is_along(load, axis)]
    widest = max(bits_of(b.dtype) for b in (store.buffer, *(load.source for load in side_by_side)))
    lanes = min(_MOST, _BITS // widest)
    while lanes > 1 and (extent % lanes or static(store.buffer.shape[-1]) != extent):
        lanes //= 2
    if lanes == 1:
        return None
    fitting: list[Any] = []
    for load in side_by_side:
        known = any(tvm_ffi.structural_equal(load, other) for other in fitting)
        if not known and _is_aligned(load, axis, lanes):
            fitting.append(load)
    return Access(lanes, tuple(fitting))


def split_accesses(schedule: s_tir.Schedule, block: Block, access: Access) -> tuple[s_tir.Schedule, Pieces]:
    """The schedule with the block as copies of vectors, arithmetic, and a store, in the loops over vectors.

    TVM derives the same from ``cache_read`` and ``compute_at``, but not for symbolic sizes.
    """
    stmt, store = block.stmt, block.stmt.body
    width = tirx.IntImm("int64", access.lanes)
    extents = [block.axis_extent(p) for p in range(len(block.axes))]
    axes = [iteration.var for iteration in stmt.iter_vars]
    inside = tirx.floormod(axes[-1], width)
    names = Pieces(
        tuple(f"{block.name}_load{n}" for n in range(len(access.loads))), f"{block.name}_compute", block.name
    )
    registers = [
        _registers(f"{load.source.name}_vector", load.source.dtype, access.lanes) for load in access.loads
    ]
    result = _registers(f"{store.buffer.name}_vector", store.buffer.dtype, access.lanes)

    def from_registers(node: Any) -> Any | None:
        if isinstance(node, ir.TensorLoad):
            for load, register in zip(access.loads, registers, strict=True):
                if tvm_ffi.structural_equal(node, load):
                    return tirx.BufferLoad(register, [inside])
        return None

    def point(buffer: Any, indices: Sequence[Any]) -> Any:
        return tirx.BufferRegion(
            buffer, [ir.Range.from_min_extent(i, tirx.IntImm("int64", 1)) for i in indices]
        )

    loops = [tirx.Var(f"v{n}", "int64") for n in range(len(axes))]
    values_at = [*loops[:-1], loops[-1] * width]

    def piece(name: str, reads: list[Any], to: Any, at: Sequence[Any], value: Any) -> Any:
        """A loop over the elements of a vector around a block of its own."""
        lane = tirx.Var("lane", "int64")
        fresh = [tirx.Var(str(a.name), "int64") for a in axes]
        body = s_tir.SBlock(
            [tirx.IterVar(i.dom, v, i.iter_type) for i, v in zip(stmt.iter_vars, fresh, strict=True)],
            _renamed(reads, axes, fresh), _renamed([point(to, at)], axes, fresh), name,
            _renamed_store(tirx.BufferStore(to, value, list(at)), axes, fresh),
        )  # fmt: skip
        always = tirx.IntImm("bool", 1)
        realized = s_tir.SBlockRealize([*values_at[:-1], values_at[-1] + lane], always, body)
        zero = tirx.IntImm("int64", 0)
        return tirx.For(lane, zero, width, tirx.ForKind.SERIAL, realized)

    parts = [
        piece(name, [point(load.source, load.indices)], register, [inside], load)
        for name, load, register in zip(names.loads, access.loads, registers, strict=True)
    ]
    reads = [*stmt.reads, *(point(register, [inside]) for register in registers)]
    parts.append(piece(names.compute, reads, result, [inside], rewrite(store.value, from_registers)))
    stored = tirx.BufferLoad(result, [inside])
    parts.append(piece(names.store, [point(result, [inside])], store.buffer, store.indices, stored))
    nest: Any = tirx.SeqStmt(parts)
    vectors = [*extents[:-1], Analyzer().simplify(tirx.floordiv(extents[-1], width))]
    for var, extent in reversed(list(zip(loops, vectors, strict=True))):
        nest = tirx.For(var, tirx.IntImm("int64", 0), extent, tirx.ForKind.SERIAL, nest)
    return _exchanged(schedule, block, nest, [*registers, result]), names


def _exchanged(schedule: s_tir.Schedule, block: Block, nest: Any, buffers: list[Any]) -> s_tir.Schedule:
    """The schedule with ``nest`` in the place of the loops around the block, and buffers for it."""
    func = schedule.mod["main"]
    root = func.body.block
    outermost = schedule.get(schedule.get_loops(block.handle)[0])
    parts = [nest if part.same_as(outermost) else part for part in _parts(root.body)]
    body = parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)
    new = s_tir.SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init,
        [*root.alloc_buffers, *buffers], root.match_buffers, root.annotations,
    )  # fmt: skip
    realize = s_tir.SBlockRealize(func.body.iter_values, func.body.predicate, new)
    return s_tir.Schedule(tvm.IRModule({"main": func.with_body(realize)}))


def _parts(stmt: Any) -> list[Any]:
    return list(stmt.seq) if isinstance(stmt, tirx.SeqStmt) else [stmt]


def _registers(name: str, dtype: Any, lanes: int) -> Any:
    return tirx.decl_buffer((tirx.IntImm("int64", lanes),), str(dtype), name=name, scope="local")


def _copied_well(dtype: Any) -> bool:
    """Whether TVM copies vectors of the type; booleans it makes two bytes wide."""
    return str(dtype) in ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64")


def _unconditional_loads(value: Any) -> list[Any]:
    """Loads that every element does: none behind a condition that protects them."""
    found: list[Any] = []
    left = [value]
    while left:
        node = left.pop()
        if isinstance(node, ir.TensorLoad):
            found.append(node)
        elif not op_name(node).endswith("if_then_else"):
            left += operands(node)
    return found


def _is_along(load: Any, axis: Any) -> bool:
    """Whether neighbours along the axis read neighbours in memory."""
    if len(load.indices) == 0:
        return False  # a scalar
    *outer, last = load.indices
    if not _copied_well(load.source.dtype) or not mentions(last, axis):
        return False
    rest = Analyzer().simplify(last - axis)
    return not mentions(rest, axis) and not any(mentions(i, axis) for i in outer)


def _is_aligned(load: Any, axis: Any, lanes: int) -> bool:
    """Whether vectors of the operand start at multiples of their size: rows, and where the first starts."""
    row = static(load.source.shape[-1])
    if row is None or row % lanes:
        return False
    start = Analyzer().simplify(tirx.floormod(load.indices[-1] - axis, lanes))
    return isinstance(start, tirx.IntImm) and int(start) == 0


def _renamed(regions: Sequence[Any], old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    at = _renaming(old, new)
    return [
        tirx.BufferRegion(
            r.source, [ir.Range.from_min_extent(rewrite(x.min, at), rewrite(x.extent, at)) for x in r.region]
        )
        for r in regions
    ]


def _renamed_store(store: Any, old: Sequence[Any], new: Sequence[Any]) -> Any:
    at = _renaming(old, new)
    return tirx.BufferStore(store.buffer, rewrite(store.value, at), [rewrite(i, at) for i in store.indices])


def _renaming(old: Sequence[Any], new: Sequence[Any]) -> Any:
    names = dict(zip(old, new, strict=True))
    return lambda node: names.get(node) if type(node) is ir.Var else None
