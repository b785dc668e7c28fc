"""Accesses to shared memory between barriers."""

from __future__ import annotations

import numpy as np

from graphopt.codegen.emulate.shared_state import SharedState, Touch

_WRITE, _READ = Touch("a", "writes", "a[i] = 0"), Touch("a", "reads", "a[i]")


def _state() -> SharedState:
    return SharedState("kernel", units=8, threads=4)


def _int(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_a_thread_may_read_what_it_wrote() -> None:
    state = _state()
    assert not state.access(_WRITE, _int(0, 1, 2, 3), _int(0, 1, 2, 3), write=True)
    assert not state.access(_READ, _int(0, 1, 2, 3), _int(0, 1, 2, 3), write=False)
    (race,) = state.access(_READ, _int(0, 1), _int(1, 1), write=False)
    assert race.actors == ("thread 0", "thread 1") and "no barrier" in str(race)


def test_a_barrier_orders_accesses() -> None:
    state = _state()
    assert not state.access(_WRITE, _int(0, 1), _int(0, 1), write=True)
    state.barrier()
    assert not state.access(_READ, _int(0, 1), _int(1, 0), write=False)
    assert state.access(_WRITE, _int(0), _int(0), write=True), "a write after another's read"


def test_two_writers_of_one_element() -> None:
    assert _state().access(_WRITE, _int(5, 5), _int(0, 1), write=True)
    assert not _state().access(_WRITE, _int(5, 5), _int(1, 1), write=True)
    assert not _state().access(_READ, _int(5, 5), _int(0, 1), write=False)


def test_a_copy_is_under_way_until_it_is_waited_for() -> None:
    state = _state()
    assert not state.start_copy(Touch("a", "copies to", "cp.async"), _int(0, 1), _int(0, 1))
    state.barrier()
    (race,) = state.access(_READ, _int(0), _int(0), write=False)
    assert race.reason == "the copy was not waited for", "even by the thread that issued it"
    state.finish_copy(_int(0, 1), _int(0, 1))
    assert state.access(_READ, _int(0), _int(1), write=False), "the wait is the copying thread's alone"
    state.barrier()
    assert not state.access(_READ, _int(0), _int(1), write=False)


def test_what_another_buffer_overwrote_is_not_read() -> None:
    state = _state()
    assert not state.access(_WRITE, _int(3), _int(0), write=True, view=0)
    state.barrier()
    assert not state.access(_READ, _int(3), _int(1), write=False, view=0)
    (race,) = state.access(_READ, _int(3), _int(1), write=False, view=1)
    assert "another buffer" in race.reason
