"""A few random kernels of every family; ``make kernel-fuzz`` runs many."""

from typing import Any

import pytest

from benchmarks.kernel_fuzz import run
from graphopt.codegen.relax import blocked_attention
from graphopt.fuzz.kernels import FAMILIES, KernelFamily

SEEDS = range(5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_random_kernels_compute_what_their_programs_do(family: KernelFamily) -> None:
    rules: set[str] = set()
    for seed in SEEDS:
        outcome, used, message = run(family, seed, "cpu")
        assert outcome == "agree", f"{family.name} {seed}: {message}"
        rules.update(used)
    assert family.rule in rules


def test_cases_are_reproducible() -> None:
    first, second = (FAMILIES[0].case(3) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first.inputs, second.inputs, strict=True))
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert (a == b).all()


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A softmax that forgets its last key."""
    original = blocked_attention._softmax_row

    def forgetful(*arguments: Any) -> None:
        *before, keys, length, lanes = arguments
        original(*before, keys - 1, length, lanes)

    monkeypatch.setattr(blocked_attention, "_softmax_row", forgetful)
    family = next(f for f in FAMILIES if f.name == "attention")
    assert run(family, 0, "cpu")[0] == "wrong"
