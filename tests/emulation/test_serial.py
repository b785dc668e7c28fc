"""Kernels written by hand, as a CPU runs them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tvm import ir, tirx

from graphopt.codegen.emulate.accesses import FIELDS
from graphopt.codegen.emulate.execute import build_on_cpu
from graphopt.codegen.emulate.launch import find_launches
from graphopt.codegen.emulate.serial import Divergent, serialise
from graphopt.codegen.emulate.synchronization import find_races
from graphopt.codegen.rewrite import sequence


def _int(value: int) -> Any:
    return tirx.IntImm("int32", value)


def _barrier() -> Any:
    return tirx.Evaluate(ir.Call("tirx.tvm_storage_sync", [ir.StringImm("shared")], ret_ty="int32"))


def _kernel(threads: int, body: Any, out: Any, *buffers: Any) -> tirx.PrimFunc:
    """One block that runs ``body(thread)``."""
    thread = tirx.Var("thread", "int32")
    tag = "threadIdx.x"
    axis = tirx.IterVar(ir.Range(_int(0), _int(threads)), thread, tirx.IterVar.ThreadIndex, tag)
    allocated = [tirx.AllocBuffer(b) for b in buffers]
    nest = tirx.AttrStmt(axis, "thread_extent", _int(threads), sequence([*allocated, *body(thread)]))
    return tirx.PrimFunc([out], nest).with_attr("global_symbol", "kernel")


def _run(func: tirx.PrimFunc, size: int, backwards: int = 0) -> tuple[list[float], list[int]]:
    serial = serialise(func, {})
    out = torch.zeros(size)
    records = torch.zeros(max(1, FIELDS * len(serial.faults.sites)), dtype=torch.int64)
    build_on_cpu({"kernel": serial.func})["kernel"](out, backwards, records)
    return out.tolist(), records[0::FIELDS].tolist()


def _reversal(with_barrier: bool) -> tirx.PrimFunc:
    """Threads put their numbers into shared memory and read them in the opposite order."""
    out = tirx.decl_buffer((_int(40),), "float32", name="out")
    shared = tirx.decl_buffer((_int(40),), "float32", name="shared", scope="shared")

    def body(thread: Any) -> list[Any]:
        number = tirx.Cast("float32", thread)
        read = tirx.BufferLoad(shared, [_int(39) - thread])
        middle = [_barrier()] if with_barrier else []
        return [tirx.BufferStore(shared, number, [thread]), *middle, tirx.BufferStore(out, read, [thread])]

    return _kernel(40, body, out, shared)


@pytest.mark.parametrize("backwards", [0, 1])
def test_threads_meet_at_a_barrier(backwards: int) -> None:
    values, faults = _run(_reversal(True), 40, backwards)
    assert values == [float(39 - i) for i in range(40)] and not any(faults)
    func = _reversal(True)
    assert not find_races(func, find_launches(func)[0], {})


def test_without_it_they_read_what_is_not_there_yet() -> None:
    values, _ = _run(_reversal(False), 40)
    assert any(v != v for v in values)
    func = _reversal(False)
    (race,) = find_races(func, find_launches(func)[0], {})
    assert race.second.buffer == "shared" and race.first.verb == "writes" and race.second.verb == "reads"


def test_a_threads_own_memory_outlives_a_barrier() -> None:
    out = tirx.decl_buffer((_int(8),), "float32", name="out")
    own = tirx.decl_buffer((_int(1),), "float32", name="own", scope="local")

    def body(thread: Any) -> list[Any]:
        store = tirx.BufferStore(own, tirx.Cast("float32", thread), [_int(0)])
        return [store, _barrier(), tirx.BufferStore(out, tirx.BufferLoad(own, [_int(0)]), [thread])]

    values, _ = _run(_kernel(8, body, out, own), 8)
    assert values == [float(i) for i in range(8)]


def test_a_store_outside_is_recorded_and_does_no_harm() -> None:
    out = tirx.decl_buffer((_int(8),), "float32", name="out")

    def body(thread: Any) -> list[Any]:
        return [tirx.BufferStore(out, tirx.FloatImm("float32", 1.0), [thread + _int(3)])]

    values, faults = _run(_kernel(8, body, out), 8)
    assert max(faults) == 3 and len(values) == 8


def test_a_barrier_that_depends_on_the_thread() -> None:
    out = tirx.decl_buffer((_int(8),), "float32", name="out")

    def body(thread: Any) -> list[Any]:
        return [tirx.IfThenElse(thread < _int(4), _barrier(), None)]

    with pytest.raises(Divergent, match="threads may not share"):
        serialise(_kernel(8, body, out), {})


def test_shuffles_take_the_value_of_another_lane() -> None:
    out = tirx.decl_buffer((_int(64),), "float32", name="out")
    value = tirx.decl_buffer((_int(1),), "float32", name="value", scope="local")

    def body(thread: Any) -> list[Any]:
        mask = tirx.IntImm("uint32", 0xFFFFFFFF)
        mine = tirx.Cast("float32", thread)
        arguments = [mask, mine, _int(16), _int(32), _int(32)]
        down = ir.Call("tirx.tvm_warp_shuffle_down", arguments, ret_ty="float32")
        return [
            tirx.BufferStore(value, down, [_int(0)]),
            tirx.BufferStore(out, tirx.BufferLoad(value, [_int(0)]), [thread]),
        ]

    values, _ = _run(_kernel(64, body, out, value), 64)
    expected = [i + 16 if i % 32 < 16 else i for i in range(64)]
    assert values == [float(v) for v in expected]
