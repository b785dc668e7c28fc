"""Proof that every two conflicting accesses to shared memory are ordered.

The accesses of one block are followed from barrier to barrier, as sets: the index expression of an access
is evaluated for all threads and all iterations of the loops around it that have no barrier inside.  Within
such a phase nothing orders the accesses of different threads, so two of them to one place, of which one
writes, are a race; those of one thread are ordered by its program.  An asynchronous copy
is a write that is under way, in this phase and those after it, until its thread has waited for its group.
Loops with barriers inside are followed iteration by iteration, which covers their back edge; where the
accesses repeat with a period that can be proven, a few periods stand for all.

Conditions and indices that depend on data count as true, and as anything.  So the absence of a finding is a
proof for the sizes at hand, and a finding may be a false alarm only where data decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import ir, sym, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.accesses import lane, lanes
from graphopt.codegen.emulate.async_copies import CP_ASYNC, copied_buffers, copied_elements
from graphopt.codegen.emulate.evaluate import Unknown, evaluate, possible
from graphopt.codegen.emulate.intrinsics import transferred
from graphopt.codegen.emulate.launch import (
    BLOCK_TAGS,
    COMMIT_GROUP,
    THREAD_TAGS,
    WAIT_GROUP,
    WARP,
    Launch,
    grid_at,
    host_values,
    is_block_barrier,
)
from graphopt.codegen.emulate.memory import NotModelled, bytes_of, elements, integer
from graphopt.codegen.emulate.shared_state import Ints, Race, SharedState, Touch
from graphopt.codegen.rewrite import (
    Expr,
    all_statements,
    bodies,
    loads,
    op_name,
    operands,
    own_expressions,
    substitute,
    variables,
)

_AXES = 10
"""Loops without barriers around an access that are kept apart; deeper nests do not occur."""
_ALL_ITERATIONS = 16
_MOST_ITERATIONS = 64
_PERIODS = (1, 2, 3, 4, 6, 8)
_EVENTS = frozenset({CP_ASYNC, COMMIT_GROUP, WAIT_GROUP})
_LOAD_MATRIX, _STORE_MATRIX = "tirx.tvm_load_matrix_sync", "tirx.tvm_store_matrix_sync"


def find_races(func: tirx.PrimFunc, launch: Launch, sizes: Mapping[str, int]) -> list[Race]:
    """Races of a launch on shared memory, at most one for each pair of accesses.

    Args:
        func: the function that holds the launch, after TVM's ``ThreadSync``.
        sizes: values of its symbolic sizes, by name.

    Raises:
        NotModelled: a barrier depends on data.
    """
    found: dict[tuple[str, str, str], Race] = {}
    grid = grid_at(func, launch, sizes)
    corners = {(0, 0, 0), (grid[0] - 1, grid[1] - 1, grid[2] - 1)}
    for block in sorted(corners):
        for race in _Block(func, launch, sizes, block).races():
            found.setdefault((race.first.text, race.second.text, race.reason), race)
    return list(found.values())


@dataclass(frozen=True)
class _View:
    """A buffer in an allocation of shared memory: ``each`` units an element."""

    state: SharedState
    each: int
    number: int


class _Block:
    """Follows one block."""

    def __init__(
        self, func: tirx.PrimFunc, launch: Launch, sizes: Mapping[str, int], block: tuple[int, int, int]
    ) -> None:
        self._launch = launch
        threads = launch.block_size
        shape = (threads, *(1,) * _AXES)
        self._numbers = np.arange(threads, dtype=np.int64).reshape(shape)
        x, y, _ = launch.threads
        along = {
            THREAD_TAGS[0]: self._numbers % x,
            THREAD_TAGS[1]: self._numbers // x % y,
            THREAD_TAGS[2]: self._numbers // (x * y),
            **dict(zip(BLOCK_TAGS, block, strict=True)),
        }
        self._values: dict[ir.Var, Any] = host_values(func, sizes)
        self._values |= {var: along[tag] for var, tag in launch.variables.items()}
        self._views = _views(launch)
        self._states = list({id(v.state): v.state for v in self._views.values()}.values())
        self._masks: list[Any] = []
        self._axis = 1
        self._races: list[Race] = []
        self._pending: list[tuple[int, SharedState, Ints, Ints]] = []
        self._group = 0
        self._binds: dict[ir.Var, Expr] = {}
        self._events: dict[Any, bool] = {}

    def races(self) -> list[Race]:
        if self._views:
            self._follow(self._launch.body)
        return self._races

    # Statements --------------------------------------------------------------------------------

    def _follow(self, stmts: Sequence[Any]) -> None:
        for stmt in stmts:
            self._step(stmt)

    def _step(self, stmt: Any) -> None:
        if isinstance(stmt, tirx.SeqStmt):
            self._follow(list(stmt.seq))
        elif isinstance(stmt, tirx.AttrStmt):
            self._step(stmt.body)
        elif isinstance(stmt, tirx.Bind):
            self._reads(stmt.value)
            self._define(stmt)
        elif isinstance(stmt, tirx.BufferStore):
            for index in stmt.indices:
                self._reads(index)
            self._reads(stmt.value)
            if stmt.buffer in self._views:
                self._touch(stmt.buffer, stmt.indices[0], stmt, write=True)
        elif isinstance(stmt, tirx.For):
            self._loop(stmt)
        elif isinstance(stmt, tirx.While):
            if self._has_events(stmt):
                raise NotModelled("a barrier in a loop whose end depends on data")
            self._reads(stmt.condition)
            self._step(stmt.body)
        elif isinstance(stmt, tirx.IfThenElse):
            self._branch(stmt)
        elif isinstance(stmt, tirx.Evaluate):
            self._call(stmt)

    def _define(self, stmt: Any) -> None:
        self._binds[stmt.var] = stmt.value
        try:
            self._values[stmt.var] = evaluate(stmt.value, self._values)
        except Unknown:
            self._values.pop(stmt.var, None)

    def _has_events(self, stmt: Any) -> bool:
        if stmt not in self._events:
            self._events[stmt] = any(
                is_block_barrier(s) or (isinstance(s, tirx.Evaluate) and op_name(s.value) in _EVENTS)
                for s in all_statements(stmt)
            )
        return self._events[stmt]

    def _branch(self, stmt: Any) -> None:
        self._reads(stmt.condition)
        held = possible(stmt.condition, self._values)
        if self._has_events(stmt):
            if np.size(held) > 1 and not (np.all(held) or not np.any(held)):
                pass  # a barrier that some threads do not reach is reported by the serial form
            elif not np.all(held):
                self._follow([] if stmt.else_case is None else [stmt.else_case])
                return
            else:
                self._step(stmt.then_case)
                return
        self._under(held, stmt.then_case)
        if stmt.else_case is not None:
            self._under(possible(prim.Not(stmt.condition), self._values), stmt.else_case)

    def _under(self, mask: Any, stmt: Any) -> None:
        self._masks.append(mask)
        self._step(stmt)
        self._masks.pop()

    def _loop(self, stmt: Any) -> None:
        self._reads(stmt.extent)
        low = evaluate(stmt.min, self._values)
        try:
            extent = evaluate(stmt.extent, self._values)
        except Unknown:
            raise NotModelled("a loop around shared memory whose length depends on data") from None
        if self._has_events(stmt):
            if np.size(extent) > 1 and np.min(extent) != np.max(extent):
                return  # reported by the serial form as divergent
            for i in self._iterations(stmt, int(np.max(extent))):
                self._values[stmt.loop_var] = low + i
                self._step(stmt.body)
            return
        longest = int(np.max(extent, initial=0))
        if longest == 0:
            return
        if self._axis > _AXES:
            raise NotModelled("loops nested too deeply")
        shape = [1] * (_AXES + 1)
        shape[self._axis] = longest
        counter = np.arange(longest, dtype=np.int64).reshape(shape)
        self._values[stmt.loop_var] = low + counter
        self._axis += 1
        self._under(counter < extent, stmt.body)
        self._axis -= 1

    def _iterations(self, stmt: Any, extent: int) -> Iterable[int]:
        """The iterations to follow of a loop with barriers: enough to stand for all."""
        if extent <= _ALL_ITERATIONS:
            return range(extent)
        period = self._period(stmt)
        if period is not None:
            return range(3 * period + _ALL_ITERATIONS // 2 + (extent - _ALL_ITERATIONS // 2) % period)
        if extent > _MOST_ITERATIONS:
            raise NotModelled(f"a loop of {extent} iterations whose accesses to shared memory do not repeat")
        return range(extent)

    def _period(self, stmt: Any) -> int | None:
        """After how many iterations of a loop the accesses to shared memory repeat."""
        for inner in all_statements(stmt.body):
            if isinstance(inner, tirx.Bind):
                self._binds[inner.var] = inner.value
        deciding = list(self._deciding(stmt.body))
        moving = []
        for expr in deciding:
            resolved = expr
            while any(v in self._binds for v in variables(resolved)):
                resolved = substitute(resolved, self._binds)
            if any(v.same_as(stmt.loop_var) for v in variables(resolved)):
                moving.append(resolved)
        analyzer = sym.Analyzer()
        analyzer.bind(stmt.loop_var, ir.Range(stmt.min, stmt.min + stmt.extent))
        for period in _PERIODS:
            later = {stmt.loop_var: stmt.loop_var + integer(period, stmt.loop_var.ty)}
            if all(analyzer.can_prove_equal(e, substitute(e, later)) for e in moving):
                return period
        return None

    def _deciding(self, stmt: Any) -> Iterable[Expr]:
        """Expressions that decide which shared memory is touched below a statement."""
        for inner in all_statements(stmt):
            shared = [n for e in own_expressions(inner) for n in loads(e) if n.source in self._views]
            for load in shared:
                yield from load.indices
            if isinstance(inner, tirx.BufferStore) and inner.buffer in self._views:
                yield from inner.indices
            if isinstance(inner, tirx.Evaluate) and isinstance(inner.value, ir.Call):
                name = op_name(inner.value)
                if name == CP_ASYNC:
                    yield inner.value.args[1]
                elif name in (_LOAD_MATRIX, _STORE_MATRIX):
                    yield transferred(inner.value)[1]
            if isinstance(inner, tirx.For | tirx.IfThenElse) and self._touches(inner):
                yield from own_expressions(inner)

    def _touches(self, stmt: Any) -> bool:
        return self._has_events(stmt) or any(True for body in bodies(stmt) for _ in self._deciding(body))

    # Accesses ----------------------------------------------------------------------------------

    def _reads(self, expr: Expr) -> None:
        """Records the loads of an expression, each where its conditions may hold."""
        if isinstance(expr, ir.TensorLoad) and expr.source in self._views:
            self._touch(expr.source, expr.indices[0], expr, write=False)
        name = op_name(expr)
        if name == "prim.if_then_else":
            self._reads(expr.args[0])
            held = possible(expr.args[0], self._values)
            self._under_expression(held, expr.args[1])
            self._under_expression(possible(prim.Not(expr.args[0]), self._values), expr.args[2])
            return
        if isinstance(expr, prim.And):
            self._reads(expr.a)
            self._under_expression(possible(expr.a, self._values), expr.b)
            return
        for operand in operands(expr):
            self._reads(operand)

    def _under_expression(self, mask: Any, expr: Expr) -> None:
        self._masks.append(mask)
        self._reads(expr)
        self._masks.pop()

    def _touch(self, buffer: ir.Var, index: Expr, node: Any, *, write: bool) -> None:
        view = self._views[buffer]
        units, actors = self._units(view, self._lane_indices(index), self._numbers)
        touch = _touch_of(buffer, "writes" if write else "reads", node)
        self._races += view.state.access(touch, units, actors, write=write, view=view.number)

    def _lane_indices(self, index: Expr) -> Any:
        """Values of an index; lanes of a vector along the last axis."""
        try:
            ends = [evaluate(lane(index, n), self._values) for n in range(lanes(index))]
        except Unknown:
            return None
        return np.stack(np.broadcast_arrays(*ends), axis=-1)

    def _units(self, view: _View, indices: Any, actors: Any) -> tuple[Ints, Ints]:
        """Units and actors of an access, flat, where its conditions may hold."""
        state = view.state
        if indices is None:
            everything = np.arange(state.units, dtype=np.int64)
            count = len(np.ravel(actors))
            return np.tile(everything, count), np.repeat(np.ravel(actors), state.units)
        places = (indices[..., None] * view.each + np.arange(view.each, dtype=np.int64)).astype(np.int64)
        mask: Any = np.True_
        for held in self._masks:
            mask = np.logical_and(mask, np.asarray(held)[..., None, None] if np.ndim(held) else held)
        places, who, mask = np.broadcast_arrays(places, actors[..., None, None], mask)
        # What is outside of the buffer is found when the kernel runs.
        held = mask & (places >= 0) & (places < state.units)
        return places[held], who[held]

    def _call(self, stmt: Any) -> None:
        call = stmt.value
        name = op_name(call)
        if is_block_barrier(stmt):
            for state in self._states:
                state.barrier()
        elif name == CP_ASYNC:
            self._copy(call)
        elif name == COMMIT_GROUP:
            self._group += 1
        elif name == WAIT_GROUP:
            self._wait(int(np.max(evaluate(call.args[0], self._values))))
        elif name in (_LOAD_MATRIX, _STORE_MATRIX):
            self._matrix(call, write=name == _STORE_MATRIX)
        elif isinstance(call, ir.Call):
            for argument in call.args:
                if not isinstance(argument, ir.StringImm):
                    self._reads(argument)

    def _copy(self, call: Expr) -> None:
        buffer, _ = copied_buffers(call)
        view = self._views.get(buffer)
        if view is None:
            return
        first = self._lane_indices(call.args[1])
        indices = None if first is None else first + np.arange(copied_elements(call), dtype=np.int64)
        units, threads = self._units(view, indices, self._numbers)
        touch = _touch_of(buffer, "copies to", call)
        self._races += view.state.start_copy(touch, units, threads, view.number)
        self._pending.append((self._group, view.state, units, threads))

    def _wait(self, in_flight: int) -> None:
        due = [p for p in self._pending if p[0] < self._group - in_flight]
        self._pending = [p for p in self._pending if p[0] >= self._group - in_flight]
        for _, state, units, threads in due:
            state.finish_copy(units, threads)

    def _matrix(self, call: Expr, *, write: bool) -> None:
        buffer, first, rows, columns, stride, by_rows = transferred(call)
        view = self._views.get(buffer)
        if view is None:
            return
        step = np.asarray(evaluate(stride, self._values))
        start = np.asarray(evaluate(first, self._values))
        if start.ndim:
            start = start[::WARP] if start.shape[0] > 1 else start
        outer, inner = (rows, columns) if by_rows else (columns, rows)
        offsets = np.arange(outer)[:, None] * int(step) + np.arange(inner)[None, :]
        warps = np.arange(self._launch.warps, dtype=np.int64).reshape((-1, *(1,) * _AXES))
        masks, self._masks = (
            self._masks,
            [m[::WARP] if np.ndim(m) and m.shape[0] > 1 else m for m in self._masks],
        )
        indices = start[..., None] + offsets.reshape(-1)
        units, actors = self._units(view, indices, warps + self._launch.block_size)
        self._masks = masks
        touch = _touch_of(buffer, "writes" if write else "reads", call)
        self._races += view.state.access(touch, units, actors, write=write, view=view.number)


def _touch_of(buffer: ir.Var, verb: str, node: Any) -> Touch:
    return Touch(str(buffer.name), verb, str(node).strip().splitlines()[-1].strip()[:160])


def _views(launch: Launch) -> dict[ir.Var, _View]:
    """The shared buffers of a launch, by the allocations that they share."""
    roots = [b for b in launch.allocations if str(b.scope()).startswith("shared")]
    views: dict[ir.Var, list[ir.Var]] = {b: [] for b in roots}
    for stmt in all_statements(launch.body[0]):
        if isinstance(stmt, tirx.DeclBuffer) and op_name(stmt.data) == "tirx.buffer_data":
            root = stmt.data.args[0]
            if root in views:
                views[root].append(stmt.buffer)
    found: dict[ir.Var, _View] = {}
    for root, aliases in views.items():
        members = aliases or [root]
        unit = math.gcd(*(bytes_of(str(b.dtype)) for b in members))
        count = (elements(root) or 0) * bytes_of(str(root.dtype)) // unit
        state = SharedState(launch.name, count, launch.block_size)
        for number, buffer in enumerate(members):
            found[buffer] = _View(state, bytes_of(str(buffer.dtype)) // unit, number)
    return found
