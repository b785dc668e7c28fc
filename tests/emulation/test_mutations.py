"""Wrong schedules are caught by the checker that is for them, and the kernels they come from pass."""

from __future__ import annotations

import pytest

from benchmarks.emulation.__main__ import caught, run_mutation
from benchmarks.emulation.kernels import TARGET, subject
from benchmarks.emulation.mutations import MUTATIONS, Mutation
from graphopt.codegen import find_target
from graphopt.codegen.emulate import check_kernel

# One for each checker and way of using the GPU; ``python -m benchmarks.emulation`` runs all.
_SAMPLE = (
    "no barrier before a total is read by all",
    "no barrier after the copies of a tile",
    "no wait for asynchronous copies",
    "a barrier that some threads do not reach",
    "a fragment loaded transposed",
    "a vector stored at an odd address",
    "shared memory written behind its end",
    "the tail's predicate forgotten",
    "a row's tail one vector short",
    "a shuffle whose mask leaves lanes out",
    "a predicate one too low",
    "too many threads",
    "more shared memory than a block has",
    "two threads that write one element",
    "sums of threads without an atomic operation",
    "two buffers of shared memory in one place",
)


@pytest.mark.parametrize("name", ["tensor-core", "staged", "reduction", "ragged", "elementwise"])
def test_right_kernels_pass(name: str) -> None:
    right = subject(name)
    check = check_kernel(right.meaning, right.lowered, find_target(TARGET))
    assert check.ok, check.findings
    assert check.ratio is not None and check.resources


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.name in _SAMPLE], ids=lambda m: m.name)
def test_wrong_kernels_do_not(mutation: Mutation) -> None:
    check = run_mutation(mutation)
    assert caught(mutation, check), check.findings


def test_the_sample_exists() -> None:
    assert set(_SAMPLE) <= {m.name for m in MUTATIONS}
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 40
