"""The serial form of a kernel: a CPU function that runs its threads as a GPU is allowed to.

A kernel is the program of one thread, and all threads of a block stop at each barrier.  So the program
is cut at its barriers, and each piece becomes a loop over the threads (Stratton et al., *MCUDA*, LCPC
2008; Jääskeläinen et al., *pocl*, Int. J. Parallel Programming 43, 2015):

- statements without barriers: one loop over all threads around them;
- a loop or branch with a barrier inside stays outside of the thread loops.  All threads have to agree
  on it, so its bounds or condition may not depend on the thread;
- shuffles and tensor-core operations are carried out by a warp at once.  A piece that has them becomes
  a loop over warps, which is cut at each of them and has loops over the lanes inside.

Threads, and blocks, run in the order of their numbers or in the opposite one, as the caller says: what
is read across a missing barrier is old in one of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate import intrinsics
from graphopt.codegen.emulate.accesses import FaultLog, Ranges
from graphopt.codegen.emulate.async_copies import AsyncCopies
from graphopt.codegen.emulate.evaluate import evaluate
from graphopt.codegen.emulate.launch import (
    BLOCK_TAGS,
    THREAD_TAGS,
    WARP,
    Launch,
    find_launches,
    host_values,
    is_block_barrier,
    is_launch,
    is_warp_barrier,
)
from graphopt.codegen.emulate.memory import Memory, NotModelled, filled, integer, undefined
from graphopt.codegen.emulate.regions import Context, Place, RegionWriter
from graphopt.codegen.rewrite import (
    Expr,
    all_statements,
    bodies,
    definitions_in_memory,
    loads,
    own_expressions,
    rewrite,
    sequence,
    statements,
    substitute,
    variables,
    walk,
)


class Divergent(Exception):
    """A barrier is in code that some threads of the block may not reach; the message says where."""


@dataclass(frozen=True)
class SerialFunction:
    """A lowered function as CPU code.

    Attributes:
        func: parameters are those of the lowered function, then ``backwards`` (int32: run threads and
            blocks in the opposite order) and the fault records (see :class:`FaultLog`).
        faults: what the fault records mean.
        launches: the kernels.
    """

    func: tirx.PrimFunc
    faults: FaultLog
    launches: list[Launch]


def serialise(func: tirx.PrimFunc, sizes: Mapping[str, int]) -> SerialFunction:
    """The serial form of a lowered function at concrete sizes.

    Args:
        sizes: values of its symbolic sizes, by name.

    Raises:
        NotModelled: it uses an intrinsic or a construct that is not modelled.
        Divergent: a barrier depends on the thread.
        InternalError: GO-1001, its thread axes contradict one another.
    """
    launches = find_launches(func)
    remaining = list(launches)
    faults = FaultLog()
    backwards = tirx.Var("backwards", "int32")
    known = host_values(func, sizes)

    def converted(stmt: Any) -> list[Any]:
        if is_launch(stmt):
            return [_Launch(remaining.pop(0), faults, backwards, known).statement()]
        if isinstance(stmt, tirx.SeqStmt):
            return [s for part in stmt.seq for s in converted(part)]
        if isinstance(stmt, tirx.AttrStmt):
            return converted(stmt.body)
        if any(is_launch(s) for s in all_statements(stmt)):
            raise NotModelled("a kernel that is launched in a loop or under a condition")
        return [stmt]

    body = sequence(converted(func.body))
    serial = tirx.PrimFunc([*func.params, backwards, faults.buffer], body)
    serial = serial.with_attr("global_symbol", str(func.attrs["global_symbol"]))
    return SerialFunction(serial, faults, launches)


Pieces = Callable[[list[Any]], list[Any]]


class _Launch:
    """Converts one launch."""

    def __init__(
        self, launch: Launch, faults: FaultLog, backwards: ir.Var, known: Mapping[ir.Var, int]
    ) -> None:
        self.launch = launch
        self.backwards = backwards
        memory, ranges = Memory(launch), Ranges()
        self.block_number = tirx.Var("block_number", "int32")
        stores = (s for s in all_statements(launch.body[0]) if isinstance(s, tirx.BufferStore))
        written = {s.buffer for s in stores if s.buffer not in memory.of}
        epoch = tirx.decl_buffer((integer(1),), "int32", name="epoch")
        self.context = Context(
            launch,
            memory,
            faults,
            ranges,
            self.block_number,
            epoch,
            written,
            known,
            AsyncCopies(launch, memory),
        )
        self.masks: list[ir.Var] = []
        self.known = known
        self.block_values: dict[ir.Var, Expr] = {v: integer(int(n), v.ty) for v, n in known.items()}
        self._sync: dict[Any, bool] = {}
        self._collective: dict[Any, bool] = {}

    def statement(self) -> Any:
        """The launch as one statement."""
        loops: list[tuple[ir.Var, Expr]] = []
        chosen: list[Any] = []
        number: Expr = integer(0)
        for axis in (2, 1, 0):
            extent = integer(int(evaluate(self.launch.grid[axis], self.known)), self.launch.grid[axis].ty)
            counter = tirx.Var(f"block_{'xyz'[axis]}_counter", extent.ty)
            block = self._along(chosen, f"block_{'xyz'[axis]}", counter, extent)
            loops.append((counter, extent))
            number = number * prim.Cast("int32", extent) + prim.Cast("int32", block)
            self.block_values |= self._values(BLOCK_TAGS[axis], block)
        chosen.append(tirx.Bind(self.block_number, number))
        body = self._block_level(self.launch.body)
        context = self.context
        nest = sequence([*chosen, *context.memory.poison(), self._next_epoch(), *body])
        for counter, extent in reversed(loops):
            nest = tirx.For(counter, integer(0, extent.ty), extent, tirx.ForKind.SERIAL, nest)
        shadows = [b for pair in context.owners.values() for b in pair]
        cleared = [filled(b, 0) for b in (*shadows, context.epoch)]
        allocated = [tirx.AllocBuffer(b) for b in (*shadows, context.epoch)]
        return sequence([*context.memory.allocations(), *allocated, *cleared, definitions_in_memory(nest)])

    def _along(self, out: list[Any], name: str, counter: ir.Var, extent: Expr) -> ir.Var:
        """A variable that runs with ``counter``, or against it; its definition goes to ``out``."""
        var = tirx.Var(name, counter.ty)
        forwards = prim.EQ(self.backwards, integer(0))
        last = extent - integer(1, extent.ty)
        out.append(tirx.Bind(var, prim.Select(forwards, counter, last - counter)))
        self.context.ranges.extent(var, integer(0, extent.ty), extent)
        return var

    def _values(self, tag: str, value: Expr) -> dict[ir.Var, Expr]:
        """``value`` for every variable of a thread axis."""
        return {
            var: value if str(var.ty) == str(value.ty) else prim.Cast(str(var.ty), value)
            for var, axis in self.launch.variables.items()
            if axis == tag
        }

    def _next_epoch(self) -> Any:
        epoch, at = self.context.epoch, [integer(0)]
        return tirx.BufferStore(epoch, tirx.BufferLoad(epoch, at) + integer(1), at)

    # Cutting -----------------------------------------------------------------------------------

    def _has_sync(self, stmt: Any) -> bool:
        if stmt not in self._sync:
            self._sync[stmt] = is_block_barrier(stmt) or any(map(self._has_sync, bodies(stmt)))
        return self._sync[stmt]

    def _has_collective(self, stmt: Any) -> bool:
        if stmt not in self._collective:
            own = is_warp_barrier(stmt) or any(
                intrinsics.is_collective(node) for e in own_expressions(stmt) for node in walk(e)
            )
            self._collective[stmt] = own or any(map(self._has_collective, bodies(stmt)))
        return self._collective[stmt]

    def _cut(
        self,
        stmts: Sequence[Any],
        splits: Callable[[Any], bool],
        split: Callable[[Any], list[Any]],
        run: Pieces,
    ) -> list[Any]:
        """Runs of statements between those that ``splits`` names go to ``run``, those to ``split``."""
        out: list[Any] = []
        pending: list[Any] = []
        for stmt in _flat(stmts):
            if isinstance(stmt, tirx.AllocBuffer):
                continue
            if isinstance(stmt, tirx.Bind) and not splits(stmt):
                pending += self._define(stmt)
            elif not splits(stmt):
                pending.append(stmt)
            else:
                out += run(pending) if pending else []
                pending = []
                out += split(stmt)
        return out + (run(pending) if pending else [])

    def _define(self, stmt: Any) -> list[Any]:
        """Remembers a definition.  One that reads memory is carried out here and now, by every thread."""
        if any(True for _ in loads(stmt.value)):
            cell = self.context.memory.scratch(str(stmt.var.ty), str(stmt.var.name))
            at = [self.context.thread_number]
            self.context.binds[stmt.var] = tirx.BufferLoad(cell, at)
            return [tirx.BufferStore(cell, stmt.value, at)]
        self.context.binds[stmt.var] = stmt.value
        return []

    def _resolved(self, expr: Expr) -> Expr:
        """``expr`` with all definitions of the kernel put in."""
        binds = self.context.binds
        while any(v in binds for v in variables(expr)):
            expr = substitute(expr, binds)
        return expr

    def _same_for(self, expr: Expr, values: dict[ir.Var, Expr], lane: set[ir.Var]) -> Expr | None:
        """``expr`` at ``values`` if it depends on none of the variables ``lane`` and on no memory."""
        resolved = substitute(self._resolved(expr), values)
        if any(v in lane for v in variables(resolved)):
            resolved = self.context.ranges.simplify(resolved)
        varies = any(v in lane for v in variables(resolved)) or any(True for _ in loads(resolved))
        return None if varies else resolved

    # Block level -------------------------------------------------------------------------------

    def _block_level(self, stmts: Sequence[Any]) -> list[Any]:
        return self._cut(stmts, self._has_sync, self._synchronised, self._between_barriers)

    def _block_uniform(self, expr: Expr) -> Expr | None:
        threads = {v for v, tag in self.launch.variables.items() if tag in THREAD_TAGS}
        for var in threads:
            size = self.launch.threads[THREAD_TAGS.index(self.launch.variables[var])]
            self.context.ranges.extent(var, integer(0, var.ty), integer(size, var.ty))
        return self._same_for(expr, self.block_values, threads)

    def _synchronised(self, stmt: Any) -> list[Any]:
        if isinstance(stmt, tirx.Evaluate):
            return [self._next_epoch()]
        if isinstance(stmt, tirx.For):
            low, extent = self._block_uniform(stmt.min), self._block_uniform(stmt.extent)
            if low is None or extent is None:
                raise Divergent(
                    f"a barrier in a loop of {stmt.extent} iterations, which threads may not share"
                )
            self.context.ranges.extent(stmt.loop_var, low, extent)
            body = sequence(self._block_level([stmt.body]))
            return [tirx.For(stmt.loop_var, low, extent, tirx.ForKind.SERIAL, body)]
        if isinstance(stmt, tirx.IfThenElse):
            condition = self._block_uniform(stmt.condition)
            if condition is None:
                raise Divergent(
                    f"a barrier under the condition {stmt.condition}, which threads may not share"
                )
            return [self._branch(condition, stmt, self._block_level)]
        raise NotModelled(f"a barrier inside {type(stmt).__name__}")

    def _branch(self, condition: Expr, stmt: Any, convert: Pieces) -> Any:
        then = sequence(convert([stmt.then_case]))
        other = None if stmt.else_case is None else sequence(convert([stmt.else_case]))
        return tirx.IfThenElse(condition, then, other)

    def _between_barriers(self, stmts: list[Any]) -> list[Any]:
        if not any(map(self._has_collective, stmts)):
            return self._over_threads(stmts)
        counter = tirx.Var("warp_counter", "int32")
        body: list[Any] = []
        warp = self._along(body, "warp", counter, integer(self.launch.warps))
        body += self._warp_level(stmts, warp)
        count = integer(self.launch.warps)
        return [tirx.For(counter, integer(0), count, tirx.ForKind.SERIAL, sequence(body))]

    def _over_threads(self, stmts: list[Any]) -> list[Any]:
        """A loop over all threads of the block around statements without barriers."""
        head: list[Any] = []
        loops: list[tuple[ir.Var, Expr]] = []
        values = dict(self.block_values)
        number: Expr = integer(0)
        for axis in (2, 1, 0):
            extent = integer(self.launch.threads[axis])
            counter = tirx.Var(f"thread_{'xyz'[axis]}_counter", "int32")
            thread = self._along(head, f"thread_{'xyz'[axis]}", counter, extent)
            loops.append((counter, extent))
            number = number * extent + thread
            values |= self._values(THREAD_TAGS[axis], thread)
        numbered = tirx.Var("thread", "int32")
        self.context.ranges.extent(numbered, integer(0), integer(self.launch.block_size))
        head.append(tirx.Bind(numbered, number))
        place = Place(values, numbered, prim.FloorDiv(numbered, integer(WARP)))
        nest = sequence([*head, *RegionWriter(self.context, place).write(stmts)])
        for counter, extent in reversed(loops):
            nest = tirx.For(counter, integer(0), extent, tirx.ForKind.SERIAL, nest)
        return [nest]

    # Warp level --------------------------------------------------------------------------------

    def _warp_level(self, stmts: Sequence[Any], warp: ir.Var) -> list[Any]:
        def split(stmt: Any) -> list[Any]:
            if is_warp_barrier(stmt):
                return [self._next_epoch()]
            if isinstance(stmt, tirx.For):
                low, extent = self._warp_uniform(stmt.min, warp), self._warp_uniform(stmt.extent, warp)
                if low is None or extent is None:
                    raise Divergent(f"a warp's operation in a loop of {stmt.extent} iterations")
                self.context.ranges.extent(stmt.loop_var, low, extent)
                body = sequence(self._warp_level([stmt.body], warp))
                return [tirx.For(stmt.loop_var, low, extent, tirx.ForKind.SERIAL, body)]
            if isinstance(stmt, tirx.IfThenElse):
                condition = self._warp_uniform(stmt.condition, warp)
                if condition is not None:
                    return [self._branch(condition, stmt, lambda s: self._warp_level(s, warp))]
                return self._masked(stmt, warp)
            if isinstance(stmt, tirx.BufferStore | tirx.Bind):
                return self._shuffle(stmt, warp)
            if isinstance(stmt, tirx.Evaluate):
                return self._matrix_operation(stmt, warp)
            raise NotModelled(f"a warp's operation inside {type(stmt).__name__}")

        return self._cut(stmts, self._has_collective, split, lambda s: self._over_lanes(s, warp))

    def _in_warp(self, warp: ir.Var, lane: Expr) -> tuple[dict[ir.Var, Expr], Expr]:
        """Thread variables of a lane, and the number of its thread."""
        x, y, z = self.launch.threads
        thread = warp * integer(WARP) + lane
        values = dict(self.block_values)
        for tag, value in zip(
            THREAD_TAGS,
            (thread % integer(x), thread // integer(x) % integer(y), thread // integer(x * y)),
            strict=True,
        ):
            values |= self._values(tag, self.context.ranges.simplify(value))
        return values, thread

    def _warp_uniform(self, expr: Expr, warp: ir.Var) -> Expr | None:
        lane = tirx.Var("lane", "int32")
        self.context.ranges.extent(lane, integer(0), integer(WARP))
        return self._same_for(expr, self._in_warp(warp, lane)[0], {lane})

    def _over_lanes(self, stmts: list[Any], warp: ir.Var) -> list[Any]:
        """A loop over the lanes of a warp around statements without collective operations."""
        size = min(WARP, self.launch.block_size)
        counter = tirx.Var("lane_counter", "int32")
        head: list[Any] = []
        lane = self._along(head, "lane", counter, integer(size))
        values, thread = self._in_warp(warp, lane)
        numbered = tirx.Var("thread", "int32")
        self.context.ranges.extent(numbered, integer(0), integer(self.launch.block_size))
        head.append(tirx.Bind(numbered, thread))
        body = sequence(RegionWriter(self.context, Place(values, numbered, warp)).write(stmts))
        for mask in self.masks:
            body = tirx.IfThenElse(prim.NE(tirx.BufferLoad(mask, [numbered]), integer(0)), body, None)
        if self.launch.block_size % WARP:
            body = tirx.IfThenElse(numbered < integer(self.launch.block_size), body, None)
        nest = sequence([*head, body])
        return [tirx.For(counter, integer(0), integer(size), tirx.ForKind.SERIAL, nest)]

    def _masked(self, stmt: Any, warp: ir.Var) -> list[Any]:
        """A branch that only some lanes take: each of its pieces is run by those."""
        out: list[Any] = []
        at = [self.context.thread_number]
        cases = [(stmt.condition, stmt.then_case)]
        if stmt.else_case is not None:
            cases.append((prim.Not(stmt.condition), stmt.else_case))
        masks = []
        for condition, _ in cases:
            mask = self.context.memory.scratch("int32", "mask")
            out += self._over_lanes([tirx.BufferStore(mask, prim.Cast("int32", condition), at)], warp)
            masks.append(mask)
        for mask, (_, case) in zip(masks, cases, strict=True):
            self.masks.append(mask)
            out += self._warp_level([case], warp)
            self.masks.pop()
        return out

    def _shuffle(self, stmt: Any, warp: ir.Var) -> list[Any]:
        """Every lane puts its value down, then every lane takes the one that it names.

        Between lanes that the mask does not name a shuffle gives anything (CUDA C++ guide, 7.22).
        """
        before: list[Any] = []
        me = self.context.thread_number

        def staged(node: Expr) -> Expr | None:
            if not intrinsics.is_shuffle(node):
                return None
            cell = self.context.memory.scratch(str(node.ty), "shuffled")
            before.append(tirx.BufferStore(cell, node.args[1], [me]))
            source = intrinsics.shuffle_source(node, me)
            both = prim.And(intrinsics.in_shuffle(node, me), intrinsics.in_shuffle(node, source))
            return prim.Select(both, tirx.BufferLoad(cell, [source]), undefined(str(node.ty)))

        value = rewrite(stmt.value, staged)
        if isinstance(stmt, tirx.Bind):
            after = self._define(tirx.Bind(stmt.var, value))
        else:
            after = [tirx.BufferStore(stmt.buffer, value, list(stmt.indices))]
        return [*self._over_lanes(before, warp), *self._over_lanes(after, warp)]

    def _matrix_operation(self, stmt: Any, warp: ir.Var) -> list[Any]:
        values, thread = self._in_warp(warp, integer(0))
        writer = RegionWriter(self.context, Place(values, thread, warp))
        return intrinsics.matrix_operation(stmt.value, writer)


def _flat(stmts: Sequence[Any]) -> list[Any]:
    """Statements in order, those under attributes too."""
    out: list[Any] = []
    for stmt in [s for part in stmts for s in statements(part)]:
        out += _flat([stmt.body]) if isinstance(stmt, tirx.AttrStmt) else [stmt]
    return out
