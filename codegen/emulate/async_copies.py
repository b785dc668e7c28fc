"""``cp.async``: copies to shared memory that are under way until their thread waits for them.

A GPU may carry such a copy out at any time between its issue and the wait for its group (PTX ISA,
"cp.async").  The serial form does it as late as it may: at issue the copy is only noted, and what is read
before the wait is what was there before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.launch import Launch
from graphopt.codegen.emulate.memory import Memory, NotModelled, bytes_of, constant, integer
from graphopt.codegen.rewrite import Expr, all_statements, op_name, sequence

if TYPE_CHECKING:
    from graphopt.codegen.emulate.regions import RegionWriter

CP_ASYNC = "tirx.s_tir.cp_async_raw"
_SLOTS = 256
"""Copies of one instruction and thread that can be noted at a time; one more is reported."""


def copied_buffers(call: Expr) -> tuple[ir.Var, ir.Var]:
    """Destination and source of an asynchronous copy."""
    return call.args[0].args[0], call.args[2].args[0]


def copied_elements(call: Expr) -> int:
    """Elements that an asynchronous copy moves."""
    size = call.args[4]
    if not isinstance(size, prim.IntImm):
        raise NotModelled("an asynchronous copy of a size that is not a number")
    return int(size) // bytes_of(str(copied_buffers(call)[0].dtype))


@dataclass(frozen=True)
class _Noted:
    """Notes of one copy instruction: ``_SLOTS`` for each thread."""

    call: Expr
    busy: ir.Var
    group: ir.Var
    to: ir.Var
    source: ir.Var
    done: ir.Var


class AsyncCopies:
    """The asynchronous copies of one launch."""

    def __init__(self, launch: Launch, memory: Memory) -> None:
        calls = [
            s.value
            for s in all_statements(launch.body[0])
            if isinstance(s, tirx.Evaluate) and op_name(s.value) == CP_ASYNC
        ]
        self._memory = memory
        self._noted = {
            call: _Noted(
                call,
                memory.scratch("int32", "copy_busy", _SLOTS, zero=True),
                memory.scratch("int32", "copy_group", _SLOTS, zero=True),
                memory.scratch("int32", "copy_to", _SLOTS, zero=True),
                memory.scratch("int32", "copy_from", _SLOTS, zero=True),
                memory.scratch("int32", "copy_noted", zero=True),
            )
            for call in calls
        }
        self._committed = memory.scratch("int32", "groups_committed", zero=True) if calls else None

    def issue(self, writer: RegionWriter, call: Expr) -> list[Any]:
        """Statements that note a copy.  One that is predicated off writes zeros at once."""
        noted = self._noted[call]
        to, source = copied_buffers(call)
        count = copied_elements(call)
        thread = writer.place.thread
        predicate = writer.value(call.args[5]) if len(call.args) > 5 else None
        before = writer.checks()
        array, at = writer.access(to, [call.args[1]], call, store=False)
        writer.access(to, [call.args[1] + integer(count - 1, call.args[1].ty)], call, store=False)
        writer.check_multiple(to, writer.value(call.args[1]), count, call)
        always = writer.checks()
        _, origin = writer.access(source, [call.args[3]], call, store=False)
        writer.access(source, [call.args[3] + integer(count - 1, call.args[3].ty)], call, store=False)
        writer.check_multiple(source, writer.value(call.args[3]), count, call)
        slot, done = tirx.Var("slot", "int32"), noted.done
        index = thread * integer(_SLOTS) + slot
        free = prim.And(
            _is_zero(tirx.BufferLoad(noted.busy, [index])), _is_zero(tirx.BufferLoad(done, [thread]))
        )
        assert self._committed is not None
        note = sequence(
            [
                tirx.BufferStore(done, integer(1), [thread]),
                tirx.BufferStore(noted.busy, integer(1), [index]),
                tirx.BufferStore(noted.group, tirx.BufferLoad(self._committed, [thread]), [index]),
                tirx.BufferStore(noted.to, prim.Cast("int32", at), [index]),
                tirx.BufferStore(noted.source, prim.Cast("int32", origin), [index]),
            ]
        )
        search = tirx.For(
            slot, integer(0), integer(_SLOTS), tirx.ForKind.SERIAL, tirx.IfThenElse(free, note, None)
        )
        ready = [*writer.checks(), tirx.BufferStore(done, integer(0), [thread])]
        writer.report("not modelled", to, call, _is_zero(tirx.BufferLoad(done, [thread])), at)
        copy = sequence([*ready, search, *writer.checks()])
        if predicate is not None:
            copy = tirx.IfThenElse(predicate, copy, sequence(_zeros(array, at, count)))
        return [*before, *always, copy]

    def commit(self, thread: Expr) -> list[Any]:
        """Statements that close the current group of a thread."""
        if self._committed is None:
            return []
        next_group = tirx.BufferLoad(self._committed, [thread]) + integer(1)
        return [tirx.BufferStore(self._committed, next_group, [thread])]

    def wait(self, thread: Expr, in_flight: Expr) -> list[Any]:
        """Statements that carry out the copies of all groups but the last ``in_flight``."""
        out: list[Any] = []
        for noted in self._noted.values():
            assert self._committed is not None
            to, source = copied_buffers(noted.call)
            storage = self._memory.of.get(to)
            if storage is None or storage.owner != "block":
                raise NotModelled(f"an asynchronous copy to {to.name}, which is not shared memory")
            slot, element = tirx.Var("slot", "int32"), tirx.Var("element", "int32")
            index = thread * integer(_SLOTS) + slot
            limit = tirx.BufferLoad(self._committed, [thread]) - prim.Cast("int32", in_flight)
            due = prim.And(
                prim.NE(tirx.BufferLoad(noted.busy, [index]), integer(0)),
                tirx.BufferLoad(noted.group, [index]) < limit,
            )
            target = tirx.BufferLoad(noted.to, [index]) + element
            origin = tirx.BufferLoad(noted.source, [index]) + element
            move = tirx.BufferStore(storage.array, tirx.BufferLoad(source, [origin]), [target])
            count = integer(copied_elements(noted.call))
            moves = tirx.For(element, integer(0), count, tirx.ForKind.SERIAL, move)
            freed = tirx.BufferStore(noted.busy, integer(0), [index])
            body = tirx.IfThenElse(due, sequence([moves, freed]), None)
            out.append(tirx.For(slot, integer(0), integer(_SLOTS), tirx.ForKind.SERIAL, body))
        return out


def _is_zero(value: Expr) -> Expr:
    return prim.EQ(value, integer(0))


def _zeros(array: ir.Var, at: Expr, count: int) -> list[Any]:
    zero = constant(str(array.dtype), 0)
    return [tirx.BufferStore(array, zero, [at + integer(n, at.ty)]) for n in range(count)]
