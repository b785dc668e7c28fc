"""Wrong schedules: one change each to a correct kernel, and the checker that has to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from benchmarks.emulation.edit import NothingToChange, edit, moved, number
from graphopt.codegen.emulate.async_copies import CP_ASYNC
from graphopt.codegen.emulate.launch import is_block_barrier, is_launch
from graphopt.codegen.emulate.lowering import LoweredFunction
from graphopt.codegen.rewrite import op_name, with_operands

Change = Callable[[LoweredFunction], LoweredFunction]


@dataclass(frozen=True)
class Mutation:
    """A wrong schedule.

    Attributes:
        name: what is wrong.
        subject: the kernel, see :func:`benchmarks.emulation.kernels.subject`.
        checkers: any of which has to find it.
        change: makes it.
    """

    name: str
    subject: str
    checkers: tuple[str, ...]
    change: Change


MUTATIONS: list[Mutation] = []


def _mutation(name: str, subject: str, *checkers: str) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        MUTATIONS.append(Mutation(name, subject, checkers, change))
        return change

    return register


def _is_scope(buffer: Any, scope: str) -> bool:
    return str(buffer.scope()).startswith(scope) if scope else str(buffer.scope()) in ("", "global")


def _without_barrier(at: int) -> Change:
    return lambda f: edit(f, stmt=lambda s: [] if is_block_barrier(s) else None, at=at)


for _name, _subject, _at in (
    ("no barrier between filling shared memory and reading it", "staged", 0),
    ("no barrier between two stages of a pipeline", "tensor-core", 1),
    ("no barrier after the copies of a tile", "tensor-core", 0),
    ("no barrier between storing fragments and reading them", "tensor-core", 3),
    ("no barrier between the sums of warps and their total", "reduction", 0),
    ("no barrier before a total is read by all", "reduction", 2),
):
    MUTATIONS.append(Mutation(_name, _subject, ("synchronization",), _without_barrier(_at)))


@_mutation("no wait for asynchronous copies", "tensor-core", "synchronization")
def _no_wait(f: LoweredFunction) -> LoweredFunction:
    def unwrap(s: Any) -> list[Any] | None:
        wait = isinstance(s, tirx.AttrStmt) and str(s.attr_key) == "async_wait_queue_scope"
        return [s.body.body] if wait else None

    return edit(f, stmt=unwrap)


@_mutation("a wait that leaves one group too many in flight", "cuda-core", "synchronization")
def _short_wait(f: LoweredFunction) -> LoweredFunction:
    def longer(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.AttrStmt) or str(s.attr_key) != "async_wait_inflight_count":
            return None
        return [tirx.AttrStmt(s.node, s.attr_key, s.value + number(1, s.value), s.body)]

    return edit(f, stmt=longer)


@_mutation("copies that are never committed", "tensor-core", "synchronization")
def _no_commit(f: LoweredFunction) -> LoweredFunction:
    def unwrap(s: Any) -> list[Any] | None:
        commit = isinstance(s, tirx.AttrStmt) and str(s.attr_key) == "async_commit_queue_scope"
        return [s.body] if commit else None

    return edit(f, stmt=unwrap)


def _copy_moved(argument: int, by: int, at: int) -> Change:
    def change(e: Any) -> Any | None:
        if op_name(e) != CP_ASYNC:
            return None
        arguments = list(e.args)
        arguments[argument] = moved(arguments[argument], by)
        return with_operands(e, arguments)

    return lambda f: edit(f, expr=change, at=at)


MUTATIONS += [
    Mutation(
        "a copy into the buffer that is being read",
        "cuda-core",
        ("synchronization",),
        _copy_moved(1, -576, 2),
    ),
    Mutation("a copy from the wrong place", "tensor-core", ("results", "bounds"), _copy_moved(3, 64, 0)),
    Mutation("a copy of 16 bytes at an address of 8", "tensor-core", ("alignment",), _copy_moved(1, 4, 1)),
]


def _load_moved(scope: str, by: int, at: int = 0) -> Change:
    def change(e: Any) -> Any | None:
        if not isinstance(e, ir.TensorLoad) or not _is_scope(e.source, scope):
            return None
        return tirx.BufferLoad(e.source, [moved(e.indices[0], by)])

    return lambda f: edit(f, expr=change, at=at)


def _store_moved(scope: str, by: int, at: int = 0) -> Change:
    def change(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.BufferStore) or not _is_scope(s.buffer, scope):
            return None
        return [tirx.BufferStore(s.buffer, s.value, [moved(s.indices[0], by)])]

    return lambda f: edit(f, stmt=change, at=at)


MUTATIONS += [
    Mutation(
        "shared memory read one element further", "staged", ("results", "bounds"), _load_moved("shared", 1)
    ),
    Mutation("shared memory written behind its end", "staged", ("bounds",), _store_moved("shared", 600)),
    Mutation("a thread's memory written behind its end", "staged", ("bounds",), _store_moved("local", 16)),
    Mutation("the input read one element further", "elementwise", ("bounds", "results"), _load_moved("", 1)),
    Mutation(
        "the output written one element further", "elementwise", ("bounds", "results"), _store_moved("", 1)
    ),
    Mutation("a row's vector written at an odd address", "rows", ("alignment",), _store_moved("", 1)),
    Mutation("a vector stored at an odd address", "tensor-core", ("alignment",), _store_moved("", 1)),
]


@_mutation("the padding's predicate forgotten", "staged", "bounds")
def _no_predicate(f: LoweredFunction) -> LoweredFunction:
    def always(e: Any) -> Any | None:
        return e.args[1] if op_name(e) == "prim.if_then_else" else None

    return edit(f, expr=always)


def _guard(change: Callable[[Any], list[Any]], at: int = 0) -> Change:
    def outer(s: Any) -> list[Any] | None:
        return change(s) if isinstance(s, tirx.IfThenElse) else None

    return lambda f: edit(f, stmt=outer, at=at)


def _one_less(s: Any) -> list[Any]:
    c = s.condition
    return [tirx.IfThenElse(type(c)(c.a, c.b - number(1, c.b)), s.then_case, None)]


def _one_more(s: Any) -> list[Any]:
    c = s.condition
    return [tirx.IfThenElse(type(c)(c.a, c.b + number(1, c.b)), s.then_case, None)]


MUTATIONS += [
    Mutation("a row's tail without its predicate", "ragged", ("bounds",), _guard(lambda s: [s.then_case])),
    Mutation("a row's tail one vector short", "ragged", ("results",), _guard(_one_less, 1)),
    Mutation("the tail's predicate forgotten", "elementwise", ("bounds",), _guard(lambda s: [s.then_case])),
    Mutation("a predicate one too low", "elementwise", ("results",), _guard(_one_less)),
    Mutation("a predicate one too high", "elementwise", ("bounds",), _guard(_one_more)),
]


@_mutation("a loop over tiles one iteration short", "staged", "results")
def _short_loop(f: LoweredFunction) -> LoweredFunction:
    def shorter(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.For) or not isinstance(s.extent, prim.IntImm) or int(s.extent) < 2:
            return None
        return [tirx.For(s.loop_var, s.min, s.extent - number(1, s.extent), s.kind, s.body)]

    return edit(f, stmt=shorter)


def _first_value(value: float | None) -> Change:
    def change(s: Any) -> list[Any] | None:
        zero = isinstance(s, tirx.BufferStore) and isinstance(s.value, prim.FloatImm)
        if not zero or not _is_scope(s.buffer, "local"):
            return None
        if value is None:
            return []
        return [tirx.BufferStore(s.buffer, prim.FloatImm(str(s.value.ty), value), list(s.indices))]

    return lambda f: edit(f, stmt=change)


MUTATIONS += [
    Mutation("an accumulator that starts at 1", "cuda-core", ("results",), _first_value(1.0)),
    Mutation("an accumulator that is not cleared", "cuda-core", ("results",), _first_value(None)),
]


def _matrix(name: str, position: int, change: Callable[[Any], Any], at: int = 0) -> Change:
    def replace(e: Any) -> Any | None:
        if op_name(e) != f"tirx.{name}":
            return None
        arguments = list(e.args)
        arguments[position] = change(arguments[position])
        return with_operands(e, arguments)

    return lambda f: edit(f, expr=replace, at=at)


def _pointer_moved(pointer: Any) -> Any:
    arguments = list(pointer.args)
    arguments[2] = moved(arguments[2], 4)
    return with_operands(pointer, arguments)


MUTATIONS += [
    Mutation(
        "a fragment loaded transposed",
        "tensor-core",
        ("results",),
        _matrix("tvm_load_matrix_sync", 7, lambda _: ir.StringImm("row_major"), 1),
    ),
    Mutation(
        "fragments loaded without the padding of their rows",
        "tensor-core",
        ("results",),
        _matrix("tvm_load_matrix_sync", 6, lambda stride: number(64, stride)),
    ),
    Mutation(
        "a fragment at an address that is not aligned",
        "tensor-core",
        ("alignment",),
        _matrix("tvm_load_matrix_sync", 5, _pointer_moved),
    ),
    Mutation(
        "sums that start at 1",
        "tensor-core",
        ("results",),
        _matrix("tvm_fill_fragment", 5, lambda _: prim.FloatImm("float32", 1.0)),
    ),
    Mutation(
        "fragments stored over one another",
        "tensor-core",
        ("synchronization", "results"),
        _matrix("tvm_store_matrix_sync", 6, lambda stride: number(4, stride)),
    ),
    Mutation(
        "a shuffle whose mask leaves lanes out",
        "rows",
        ("results",),
        _matrix("tvm_warp_shuffle_down", 0, lambda mask: number(0xFFFF, mask), 5),
    ),
    Mutation(
        "a total that another row's warp would broadcast",
        "rows",
        ("results",),
        _matrix("tvm_warp_shuffle", 2, lambda lane: number(1, lane), 1),
    ),
    Mutation(
        "a sum over half of a warp",
        "rows",
        ("results",),
        _matrix("tvm_warp_shuffle_down", 3, lambda width: number(16, width), 5),
    ),
    Mutation(
        "a shuffle from the wrong lane",
        "reduction",
        ("results",),
        # The first eight are of the maximum, of which softmax asks only that it is not too small.
        _matrix("tvm_warp_shuffle_down", 2, lambda delta: delta - number(1, delta), 8),
    ),
]


def _extent(tag: str, change: Callable[[int], int]) -> Change:
    def replace(s: Any) -> list[Any] | None:
        if not is_launch(s) or str(s.node.thread_tag) != tag:
            return None
        extent = number(change(int(s.value)), s.value)
        return [tirx.AttrStmt(s.node, s.attr_key, extent, s.body)]

    return lambda f: edit(f, stmt=replace, at=0)


MUTATIONS += [
    Mutation("half the threads", "cuda-core", ("results",), _extent("threadIdx.x", lambda n: n // 2)),
    Mutation("a block too few", "elementwise", ("results",), _extent("blockIdx.x", lambda n: n - 1)),
    Mutation("too many threads", "elementwise", ("limits",), _extent("threadIdx.x", lambda n: 16 * n)),
    Mutation("blocks of no whole warps", "tensor-core", ("limits",), _extent("threadIdx.x", lambda n: n - 1)),
]


def _larger(scope: str, times: int) -> Change:
    def replace(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.AllocBuffer) or not _is_scope(s.buffer, scope):
            return None
        big = tirx.decl_buffer(
            (number(int(s.buffer.shape[0]) * times, s.buffer.shape[0]),),
            str(s.buffer.dtype),
            name=str(s.buffer.name),
            scope=str(s.buffer.scope()),
        )
        return [s, tirx.AllocBuffer(big)]

    return lambda f: edit(f, stmt=replace)


MUTATIONS += [
    Mutation("more shared memory than a block has", "staged", ("limits",), _larger("shared", 40)),
    Mutation(
        "more dynamic shared memory than a block has", "cuda-core", ("limits",), _larger("shared.dyn", 6)
    ),
    Mutation("more registers than a thread has", "staged", ("limits",), _larger("local", 40)),
]


@_mutation("two threads that write one element", "elementwise", "race")
def _two_writers(f: LoweredFunction) -> LoweredFunction:
    def change(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.BufferStore) or not _is_scope(s.buffer, ""):
            return None
        two = number(2, s.indices[0])
        return [tirx.BufferStore(s.buffer, s.value, [prim.FloorDiv(s.indices[0], two) * two])]

    return edit(f, stmt=change)


@_mutation("sums of threads without an atomic operation", "elementwise", "race")
def _lost_update(f: LoweredFunction) -> LoweredFunction:
    def change(s: Any) -> list[Any] | None:
        if not isinstance(s, tirx.BufferStore) or not _is_scope(s.buffer, ""):
            return None
        at = [prim.FloorDiv(s.indices[0], number(2, s.indices[0]))]
        return [tirx.BufferStore(s.buffer, tirx.BufferLoad(s.buffer, at) + s.value, at)]

    return edit(f, stmt=change)


@_mutation("a barrier that some threads do not reach", "staged", "divergence")
def _divergent(f: LoweredFunction) -> LoweredFunction:
    thread: list[Any] = []

    def change(s: Any) -> list[Any] | None:
        if is_launch(s) and str(s.node.thread_tag) == "threadIdx.x":
            thread.append(s.node.var)
        if not is_block_barrier(s):
            return None
        var = thread[-1]
        return [tirx.IfThenElse(var < number(4, var), s, None)]

    return edit(f, stmt=change)


@_mutation("two buffers of shared memory in one place", "tensor-core", "synchronization")
def _overlapping(f: LoweredFunction) -> LoweredFunction:
    """The merged allocation alone is changed, as a wrong plan of it would."""
    changed = _copy_moved(1, -4352, 0)(f).emitted
    if changed is f.emitted:
        raise NothingToChange
    return LoweredFunction(changed, f.separate)
