"""Pieces of a kernel without barriers, for one thread: its variables and memory, and its checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.accesses import FaultLog, Ranges, Site, conjunction, lane, lanes
from graphopt.codegen.emulate.async_copies import CP_ASYNC, AsyncCopies
from graphopt.codegen.emulate.evaluate import evaluate
from graphopt.codegen.emulate.launch import COMMIT_GROUP, WAIT_GROUP, Launch
from graphopt.codegen.emulate.memory import Memory, NotModelled, integer
from graphopt.codegen.rewrite import (
    Expr,
    all_statements,
    op_name,
    operands,
    own_expressions,
    sequence,
    statements,
    variables,
    with_operands,
)


@dataclass(frozen=True)
class Place:
    """Who runs a piece: the value of each thread variable, and the number of thread and warp."""

    values: dict[ir.Var, Expr]
    thread: Expr
    warp: Expr


@dataclass
class Context:
    """What the pieces of a launch have in common.

    Attributes:
        binds: definitions that are visible; a piece repeats those that it uses.
        block: number of the block.
        known: values of the function's symbolic sizes.
        epoch: one element, the number of barriers that the block has passed.
        written: global buffers that the kernel writes to.
        owners: for each of them, who wrote each element last, and in which epoch.
    """

    launch: Launch
    memory: Memory
    faults: FaultLog
    ranges: Ranges
    block: Expr
    epoch: ir.Var
    written: set[ir.Var]
    known: Mapping[ir.Var, int]
    copies: AsyncCopies
    binds: dict[ir.Var, Expr] = field(default_factory=dict)
    owners: dict[ir.Var, tuple[ir.Var, ir.Var]] = field(default_factory=dict)
    thread_number: ir.Var = field(default_factory=lambda: tirx.Var("thread_number", "int32"))

    def elements(self, buffer: ir.Var) -> int:
        """Number of elements of a buffer of the kernel."""
        return math.prod(int(evaluate(extent, self.known)) for extent in buffer.shape)


class RegionWriter:
    """Writes statements of the kernel for one place."""

    def __init__(self, context: Context, place: Place) -> None:
        self._context = context
        self.place = place
        self._values = {**place.values, context.thread_number: place.thread}
        self._checks: list[Any] = []
        self._path: list[Expr] = []

    def write(self, stmts: Sequence[Any]) -> list[Any]:
        """The statements, after the definitions that they use."""
        return [*self.definitions(stmts), *self._all(stmts)]

    def definitions(self, stmts: Sequence[Any]) -> list[Any]:
        """Definitions made outside of ``stmts`` that they use, in order, as variables of this place."""
        binds = self._context.binds
        needed: set[ir.Var] = set()
        open_: list[ir.Var] = [
            v for s in stmts for t in all_statements(s) for e in own_expressions(t) for v in variables(e)
        ]
        while open_:
            var = open_.pop()
            if var in binds and var not in needed:
                needed.add(var)
                open_ += list(variables(binds[var]))
        out: list[Any] = []
        for var in [v for v in binds if v in needed]:
            own = tirx.Var(var.name, var.ty)
            value = self.value(binds[var])
            out += self._taken()
            out.append(tirx.Bind(own, value))
            self._context.ranges.define(own, value)
            self._values[var] = own
        return out

    # Statements --------------------------------------------------------------------------------

    def _all(self, stmts: Sequence[Any]) -> list[Any]:
        return [s for part in stmts for one in statements(part) for s in self._statement(one)]

    def _statement(self, stmt: Any) -> list[Any]:
        if isinstance(stmt, tirx.BufferStore):
            return self._store(stmt)
        if isinstance(stmt, tirx.AllocBuffer):
            return []
        if isinstance(stmt, tirx.AttrStmt):
            return self._all([stmt.body])
        if isinstance(stmt, tirx.Bind):
            value = self.value(stmt.value)
            self._context.ranges.define(stmt.var, value)
            return [*self._taken(), tirx.Bind(stmt.var, value)]
        if isinstance(stmt, tirx.For):
            low, extent = self.value(stmt.min), self.value(stmt.extent)
            checks = self._taken()
            own = tirx.Var(stmt.loop_var.name, stmt.loop_var.ty)
            self._values[stmt.loop_var] = own
            self._context.ranges.extent(own, low, extent)
            body = sequence(self._all([stmt.body]))
            return [*checks, tirx.For(own, low, extent, tirx.ForKind.SERIAL, body)]
        if isinstance(stmt, tirx.IfThenElse):
            condition = self.value(stmt.condition)
            checks = self._taken()
            then = sequence(self._all([stmt.then_case]))
            other = None if stmt.else_case is None else sequence(self._all([stmt.else_case]))
            return [*checks, tirx.IfThenElse(condition, then, other)]
        if isinstance(stmt, tirx.While):
            condition = self.value(stmt.condition)
            checks = self._taken()
            body = sequence([*self._all([stmt.body]), *checks])
            return [*checks, tirx.While(condition, body)]
        if isinstance(stmt, tirx.Evaluate):
            return self._evaluate(stmt)
        raise NotModelled(f"statement {type(stmt).__name__}")

    def _evaluate(self, stmt: Any) -> list[Any]:
        if isinstance(stmt.value, prim.IntImm):
            return []
        name = op_name(stmt.value)
        if name == CP_ASYNC:
            return self._context.copies.issue(self, stmt.value)
        if name == COMMIT_GROUP:
            return self._context.copies.commit(self.place.thread)
        if name == WAIT_GROUP:
            return self._context.copies.wait(self.place.thread, stmt.value.args[0])
        raise NotModelled(f"intrinsic {name or stmt.value}")

    def _store(self, stmt: Any) -> list[Any]:
        return self.store(stmt, self.value(stmt.value))

    def store(self, stmt: Any, value: Expr) -> list[Any]:
        """``stmt`` with a value of this place, after the checks of all accesses so far."""
        array, index = self.access(stmt.buffer, stmt.indices, stmt, store=True)
        checks = self._taken()
        races = self._race_of_store(stmt, index, value)
        return [*checks, *races, tirx.BufferStore(array, value, [index])]

    # Expressions -------------------------------------------------------------------------------

    def value(self, expr: Expr) -> Expr:
        """An expression of the kernel at this place; its accesses are checked by statements to come first."""
        if isinstance(expr, ir.Var):
            return self._values.get(expr, expr)
        if isinstance(expr, ir.TensorLoad):
            array, index = self.access(expr.source, expr.indices, expr, store=False)
            self._race_of_load(expr, index)
            return tirx.BufferLoad(array, [index])
        name = op_name(expr)
        if name == "tirx.tvm_warp_activemask":
            return prim.IntImm(str(expr.ty), 0xFFFFFFFF)
        if name == "prim.if_then_else":
            condition = self.value(expr.args[0])
            then = self._under(condition, expr.args[1])
            other = self._under(prim.Not(condition), expr.args[2])
            return with_operands(expr, [condition, then, other])
        if isinstance(expr, prim.And | prim.Or):
            first = self.value(expr.a)
            held = first if isinstance(expr, prim.And) else prim.Not(first)
            return type(expr)(first, self._under(held, expr.b))
        if isinstance(expr, prim.Let):
            raise NotModelled("a let expression")
        before = operands(expr)
        after = [self.value(o) for o in before]
        if isinstance(expr, prim.FloorDiv | prim.FloorMod):
            return self._context.ranges.divided(expr, after)
        if all(a is b or a.same_as(b) for a, b in zip(before, after, strict=True)):
            return expr
        return with_operands(expr, after)

    def _under(self, condition: Expr, expr: Expr) -> Expr:
        self._path.append(condition)
        value = self.value(expr)
        self._path.pop()
        return value

    # Accesses ----------------------------------------------------------------------------------

    def access(
        self, buffer: ir.Var, indices: Sequence[Expr], node: Any, *, store: bool
    ) -> tuple[ir.Var, Expr]:
        """The array and the index behind an access, moved into the buffer if it would be outside."""
        if len(indices) != 1:
            raise NotModelled(f"buffer {buffer.name} with {len(indices)} dimensions after flattening")
        index = self._once(self.value(indices[0]))
        storage = self._context.memory.of.get(buffer)
        size = integer(storage.size if storage else self._context.elements(buffer), index_dtype(index))
        if store and isinstance(index, prim.Ramp) and is_one(index.stride):
            self.check_multiple(buffer, index.base, lanes(index), node)
        index = self._checked(buffer, index, size, node)
        if storage is None:
            return buffer, index
        owners = {"block": None, "warp": self.place.warp, "thread": self.place.thread}
        owner = owners[storage.owner]
        if owner is None:
            return storage.array, index
        return storage.array, shifted(index, owner * integer(storage.size))

    def _once(self, index: Expr) -> Expr:
        """An index that is computed once, for its checks and for the access."""
        if type(index) is prim.Ramp:
            return prim.Ramp(self._once(index.base), index.stride, index.lanes)
        if type(index) in (ir.Var, prim.IntImm) or lanes(index) > 1:
            return index
        own = tirx.Var("index", index.ty)
        self._checks.append(tirx.Bind(own, index))
        self._context.ranges.define(own, index)
        return own

    def check_multiple(self, buffer: ir.Var, index: Expr, unit: int, node: Any) -> None:
        """Check that an index is a multiple of ``unit`` elements."""
        size, zero = integer(unit, index_dtype(index)), integer(0, index_dtype(index))
        rest = self._context.ranges.simplify(prim.FloorMod(index, size))
        if unit > 1 and not (isinstance(rest, prim.IntImm) and int(rest) == 0):
            self.report("alignment", buffer, node, prim.NE(prim.Mod(index, size), zero), index)

    def checks(self) -> list[Any]:
        """The checks of the accesses so far, which come before the statement that makes them."""
        return self._taken()

    def fragment_shape(self, fragment: ir.Var) -> tuple[int, int, int]:
        """m, n and k of a buffer of fragments."""
        shapes = self._context.launch.fragments
        if fragment not in shapes:
            raise NotModelled(f"fragments {fragment.name} of an unknown shape")
        return shapes[fragment]

    @property
    def ranges(self) -> Ranges:
        """What is known of variables."""
        return self._context.ranges

    def _checked(self, buffer: ir.Var, index: Expr, size: Expr, node: Any) -> Expr:
        if self._context.ranges.inside(index, size):
            return index
        dtype = index_dtype(index)
        zero = integer(0, dtype)
        count = lanes(index)
        ends = [index] if count == 1 else [lane(index, n) for n in range(count)]
        if isinstance(index, prim.Ramp) and count > 1:
            ends = [ends[0], ends[-1]]
        good: Expr | None = None
        for end in ends:
            inside = prim.And(zero <= end, end < size)
            good = inside if good is None else prim.And(good, inside)
        assert good is not None
        self.report("bounds", buffer, node, prim.Not(good), ends[0] if count == 1 else ends[-1])
        if count == 1:
            return prim.Select(good, index, zero)
        if isinstance(index, prim.Ramp):
            base, stride = prim.Select(good, index.base, zero), prim.Select(good, index.stride, zero)
            return prim.Ramp(base, stride, count)
        if isinstance(index, prim.Broadcast):
            return prim.Broadcast(prim.Select(good, index.value, zero), count)
        raise NotModelled(f"a vector access at {index} that is not proven to be inside")

    def report(self, kind: str, buffer: ir.Var, node: Any, bad: Expr, index: Expr) -> None:
        site = Site(kind, str(buffer.name), node, self._context.elements(buffer))
        condition = conjunction([*self._path, bad])
        self._checks.append(
            self._context.faults.check(site, condition, index, self._context.block, self.place.thread)
        )

    def _taken(self) -> list[Any]:
        checks, self._checks = self._checks, []
        return checks

    # Global memory -----------------------------------------------------------------------------

    def _me(self) -> Expr:
        size = integer(self._context.launch.block_size)
        return self._context.block * size + self.place.thread + integer(1)

    def _shadows(self, buffer: ir.Var) -> tuple[ir.Var, ir.Var]:
        owners = self._context.owners
        if buffer not in owners:
            shape = (integer(self._context.elements(buffer)),)
            names = f"{buffer.name}_writer", f"{buffer.name}_epoch"
            owners[buffer] = (
                tirx.decl_buffer(shape, "int32", name=names[0]),
                tirx.decl_buffer(shape, "int32", name=names[1]),
            )
        return owners[buffer]

    def _race_of_store(self, stmt: Any, index: Expr, value: Expr) -> list[Any]:
        if stmt.buffer not in self._context.written:
            return []
        writer, epoch = self._shadows(stmt.buffer)
        out: list[Any] = []
        for n in range(lanes(index)):
            at = lane(index, n)
            old = tirx.BufferLoad(stmt.buffer, [at])
            new = value if lanes(value) == 1 else tirx.Shuffle([value], [integer(n)])
            if str(old.ty) == "bool":
                old, new = prim.Cast("int32", old), prim.Cast("int32", new)
            bad = prim.And(self._foreign(writer, epoch, at), prim.NE(old, new))
            self.report("race", stmt.buffer, stmt, bad, at)
            out += self._taken()
            out.append(tirx.BufferStore(writer, self._me(), [at]))
            out.append(tirx.BufferStore(epoch, tirx.BufferLoad(self._context.epoch, [integer(0)]), [at]))
        return out

    def _race_of_load(self, load: Any, index: Expr) -> None:
        if load.source not in self._context.written:
            return
        writer, epoch = self._shadows(load.source)
        for n in range(lanes(index)):
            at = lane(index, n)
            self.report("race", load.source, load, self._foreign(writer, epoch, at), at)

    def _foreign(self, writer: ir.Var, epoch: ir.Var, at: Expr) -> Expr:
        """Whether another thread wrote an element, and no barrier of this block lies in between."""
        who, when = tirx.BufferLoad(writer, [at]), tirx.BufferLoad(epoch, [at])
        size = integer(self._context.launch.block_size)
        here = prim.EQ(prim.Div(who - integer(1), size), self._context.block)
        before = prim.And(here, when < tirx.BufferLoad(self._context.epoch, [integer(0)]))
        other = prim.And(prim.NE(who, integer(0)), prim.NE(who, self._me()))
        return prim.And(other, prim.Not(before))


def shifted(index: Expr, offset: Expr) -> Expr:
    """``index + offset`` for scalars and vectors."""
    dtype = index_dtype(index)
    moved = offset if str(offset.ty) == dtype else prim.Cast(dtype, offset)
    if isinstance(index, prim.Ramp):
        return prim.Ramp(index.base + moved, index.stride, lanes(index))
    if lanes(index) > 1:
        return index + prim.Broadcast(moved, lanes(index))
    return index + moved


def index_dtype(index: Expr) -> str:
    """The scalar dtype of an index."""
    return str(index.ty).partition("x")[0]


def is_one(value: Expr) -> bool:
    return isinstance(value, prim.IntImm) and int(value) == 1
