"""A run of the tuner, on scripted measurements: budgets, resuming, interrupts, and what may be recorded."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphopt.codegen.tuning import session as session_module
from graphopt.codegen.tuning.database import TuningDatabase
from graphopt.codegen.tuning.kernel import Kernel, target_key
from graphopt.codegen.tuning.session import Budget, Session
from tests.tuning.kernels import TARGET, ScriptedMeasuring, kernels_of

KEY = target_key(TARGET)


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """A product that takes 100 us, and a softmax that takes 10."""
    module = nn.Sequential(nn.Linear(32, 48), nn.Softmax(-1))
    return [k for k in kernels_of(module, torch.zeros(64, 32)) if k.skipped is None]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_PAUSE", 0.0)


def times(name: str, decisions: dict[str, int]) -> float:
    """Eight rows and order 2 are best; everything else is worse than the default."""
    base = 100.0 if "matmul" in name else 10.0
    if not decisions:
        return base
    gain = 0.7 if decisions.get("panel.rows") == 8 else 1.05
    return base * gain * (0.9 if decisions.get("order") == 2 else 1.0)


def run(
    kernels: list[Kernel], folder: Path, measuring: ScriptedMeasuring, trials: int, **options: Any
) -> Session:
    session = Session(kernels, KEY, TuningDatabase(folder), measuring, Budget(trials), **options)  # type: ignore[arg-type]
    session.run()
    assert measuring.closed
    return session


def test_it_finds_the_best_and_spends_its_trials_where_time_is(kernels: list[Kernel], tmp_path: Path) -> None:
    measuring = ScriptedMeasuring(times)
    session = run(kernels, tmp_path, measuring, 150)
    first = session.report()[0]
    assert "matmul" in first.name
    assert (first.decisions["panel.rows"], first.decisions["order"]) == (8, 2)
    assert first.default_microseconds == 100.0 and first.tuned_microseconds == pytest.approx(63.0)
    tried = Counter(name for name, _ in measuring.asked)
    assert tried[first.name] > 0.7 * tried.total()
    assert session.trials <= 150 and len(measuring.asked) < 150 + 10, "only winners are measured twice"


def test_a_second_run_measures_nothing_again(kernels: list[Kernel], tmp_path: Path) -> None:
    first, second, third = (ScriptedMeasuring(times) for _ in range(3))
    run(kernels, tmp_path, first, 20)
    again = run(kernels, tmp_path, second, 20)
    assert second.asked == [] and second.defaults == [] and again.trials == 0
    more = run(kernels, tmp_path, third, 30)
    assert third.defaults == [] and more.trials == 10
    known = {(name, tuple(sorted(d.items()))) for name, d in first.asked}
    assert not known & {(name, tuple(sorted(d.items()))) for name, d in third.asked}


def test_fresh_forgets(kernels: list[Kernel], tmp_path: Path) -> None:
    run(kernels, tmp_path, ScriptedMeasuring(times), 20)
    measuring = ScriptedMeasuring(times)
    session = run(kernels, tmp_path, measuring, 20, fresh=True)
    assert session.trials == 20 and len(measuring.defaults) == len(kernels)


@pytest.mark.parametrize("moment", (1, 2, 7, 12))
def test_an_interrupt_keeps_what_was_measured(kernels: list[Kernel], tmp_path: Path, moment: int) -> None:
    calls = 0

    def interrupted(name: str, decisions: dict[str, int]) -> float:
        nonlocal calls
        calls += bool(decisions) or moment <= 2
        if calls == moment:
            raise KeyboardInterrupt
        return times(name, decisions)

    session = run(kernels, tmp_path, ScriptedMeasuring(interrupted), 50)
    assert session.interrupted
    assert len(session.report()) == len(kernels)
    kept = TuningDatabase(tmp_path)
    assert kept.problems == []
    assert sum(len(kept.of_kernel(k.key)) for k in kernels) >= moment - 2
    assert not run(kernels, tmp_path, ScriptedMeasuring(times), 50).interrupted


def test_a_wrong_candidate_is_never_used_however_fast(kernels: list[Kernel], tmp_path: Path) -> None:
    def wrong(name: str, decisions: dict[str, int]) -> Any:
        return {"status": "wrong", "reason": "3 of 9 elements differ"} if decisions else 100.0

    session = run(kernels, tmp_path, ScriptedMeasuring(wrong), 20)
    assert TuningDatabase(tmp_path).best_of_target(KEY) == {}
    assert sum(k.rejected for k in session.report()) == session.trials == 20
    assert all(not k.decisions and k.gain == 1.0 for k in session.report())


def test_noise_makes_no_winners(kernels: list[Kernel], tmp_path: Path) -> None:
    generator = random.Random(0)

    def noisy(name: str, decisions: dict[str, int]) -> float:
        return 100.0 * (1 + generator.expovariate(2.0))  # other processes only ever take time

    run(kernels, tmp_path, ScriptedMeasuring(noisy), 200)
    best = TuningDatabase(tmp_path).best_of_target(KEY).values()
    assert all((r.microseconds or 0.0) >= 95.0 for r in best)
    assert len(best) <= 1


def test_combinations_that_exclude_each_other_cost_no_trial(kernels: list[Kernel], tmp_path: Path) -> None:
    def half(name: str, decisions: dict[str, int]) -> Any:
        if len(decisions) > 1:
            return {"status": "invalid", "reason": "a tile needs more registers than there are"}
        return times(name, decisions)

    measuring = ScriptedMeasuring(half)
    session = run(kernels, tmp_path, measuring, 10)
    assert session.trials == 10 < len(measuring.asked)


def test_a_small_space_is_exhausted_before_the_budget(kernels: list[Kernel], tmp_path: Path) -> None:
    softmax = [k for k in kernels if "matmul" not in k.name]
    measuring = ScriptedMeasuring(times)
    session = run(softmax, tmp_path, measuring, 1000)
    assert 0 < session.trials < 20


def test_a_kernel_that_cannot_run_is_reported_and_left(kernels: list[Kernel], tmp_path: Path) -> None:
    class Broken(ScriptedMeasuring):
        def default(self, kernel: Kernel, rounds: int) -> dict[str, Any]:
            if "matmul" in kernel.name:
                return {"status": "failed", "reason": "the measuring process crashed"}
            return super().default(kernel, rounds)

    session = run(kernels, tmp_path, Broken(times), 10)
    (problem,) = (k for k in session.report() if "matmul" in k.name)
    assert problem.skipped == "the measuring process crashed" and problem.trials == 0


def test_time_is_a_budget_too(kernels: list[Kernel], tmp_path: Path) -> None:
    session = Session(kernels, KEY, TuningDatabase(tmp_path), ScriptedMeasuring(times), Budget(None, 0.0))  # type: ignore[arg-type]
    session.run()
    assert session.trials == 0 and not session.interrupted
