"""Tuning for real, on a model of two kernels: the records, the compilations that use them, the command."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.cli.main import run
from graphopt.codegen import find_target
from graphopt.codegen.tuning.context import kernel_times
from graphopt.codegen.tuning.database import Record, TuningDatabase
from graphopt.codegen.tuning.kernel import Kernel, find_kernels, target_key
from graphopt.codegen.tuning.measuring import Measuring
from graphopt.codegen.tuning.report import ModelLatency
from graphopt.errors import InputError, TargetError, UsageError
from graphopt.ir.program import Program
from graphopt.verification import verify
from tests.tuning.kernels import fused, program_of

HERE = find_target("cpu")
NAMES = ("packed_matmul", "fused_packed_matmul_relu", "packed_matmul1")


@pytest.fixture(scope="module")
def program() -> Program:
    layers = (nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 40), nn.Linear(40, 40))
    return program_of(nn.Sequential(*layers), torch.zeros(10, 24))


@pytest.fixture(scope="module")
def kernels(program: Program) -> list[Kernel]:
    return find_kernels(fused(program, HERE), HERE)


@pytest.fixture
def model(program: Program, tmp_path: Path) -> Path:
    program.save(tmp_path / "model.pt2")
    return tmp_path / "model.pt2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scripted(monkeypatch: pytest.MonkeyPatch, attempt: Any) -> None:
    """Answers in the place of the measuring process; every default takes 100 us."""
    same = [dict.fromkeys(NAMES, 2.0), dict.fromkeys(NAMES, 1.0)]
    monkeypatch.setattr("graphopt.codegen.tuning.context.kernel_times", lambda *_: same)
    monkeypatch.setattr(Measuring, "default", lambda *_: {"microseconds": 100.0})
    monkeypatch.setattr(Measuring, "attempt", lambda _, kernel, decisions, rounds: attempt(kernel, decisions))


def half(kernel: Kernel, decisions: dict[str, int]) -> dict[str, Any]:
    """Other panels of weights win, everything else loses."""
    time = 50.0 if list(decisions) == ["panel.columns"] else 200.0
    return {"status": "measured", "microseconds": time, "default_microseconds": 100.0}


def planted(folder: Path, kernel: Kernel, decisions: dict[str, int]) -> None:
    database = TuningDatabase(folder)
    names = (kernel.key, target_key(HERE), kernel.name)
    database.add(Record(*names, "default", microseconds=9.0))
    database.add(Record(*names, "faster", decisions, 5.0, 9.0))


def test_tuned_for_real(program: Program, cache: Path) -> None:
    report = graphopt.tune(program, trials=4, measure_model=False)
    assert report.database == cache / "tuning" / "records.jsonl" and report.warnings == []
    assert report.trials == 4 and not report.interrupted
    measured = [k for k in report.kernels if k.skipped is None]
    assert measured and all(k.default_microseconds and k.default_microseconds > 0 for k in measured)
    assert sum(k.rejected for k in report.kernels) == 0
    assert json.loads(json.dumps(report.to_dict()))["schema"] == "graphopt.tune/1"
    again = graphopt.tune(program, trials=4, measure_model=False)
    assert again.trials == 0
    assert [k.default_microseconds for k in again.kernels] == [k.default_microseconds for k in report.kernels]


def test_a_compilation_uses_the_records(program: Program, kernels: list[Kernel], cache: Path) -> None:
    before = graphopt.compile(program)
    assert before.tuned() == {}
    for kernel in kernels:
        if "panel.columns" in kernel.space:
            choice = kernel.space["panel.columns"]
            planted(
                cache / "tuning", kernel, {"panel.columns": choice.options[0], "panel.rows": 2, "order": 2}
            )
    after = graphopt.compile(program)
    assert len(after.tuned()) == 2 and after.warnings() == []
    assert after.source() != before.source()
    x = torch.randn(10, 24)
    assert torch.equal(after(x)[0], before(x)[0])
    verify(program, after, draws=1).raise_if_failed()
    assert graphopt.compile(program).tuned() == after.tuned(), "from the cache"
    assert graphopt.compile(program, tuned=False).source() == before.source()
    assert graphopt.compile(program, tuned=cache / "nowhere").source() == before.source()
    assert graphopt.compile(program, target="x86-64-v2").tuned() == {}, "records are for this machine"


def test_a_record_that_does_not_fit_is_told_and_not_used(
    program: Program, kernels: list[Kernel], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tunable = [k for k in kernels if k.skipped is None]
    planted(cache / "tuning", tunable[0], {"panel.columns": 7})
    with caplog.at_level(logging.WARNING):
        artifact = graphopt.compile(program)
    assert artifact.tuned() == {}
    (warning,) = artifact.warnings()
    assert tunable[0].name in warning and "default" in warning and warning.count("\n") == 0
    assert tunable[0].name in caplog.text
    assert artifact.source() == graphopt.compile(program, tuned=False).source()


def test_the_command_prints_what_was_won(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scripted(monkeypatch, half)
    monkeypatch.setattr("graphopt.workflows.tune._TURN_SECONDS", 0.0)
    report = tmp_path / "report.json"
    assert run(["tune", str(model), "--trials", "30", "--json", str(report)]) == 0
    out, err = capsys.readouterr()
    assert "50.00" in out and "2.00" in out and "whole model:" in out and "30 schedules tried" in out
    assert "100.0 -> 50.0 us (2.00x; panel.columns=" in err and "kernels measured" in err
    facts = json.loads(report.read_text())
    assert facts["latency"]["before"] > 0 and max(k["gain"] for k in facts["kernels"]) == 2.0
    assert run(["compile", str(model), "--verify", "off"]) == 0
    assert "of them tuned" in capsys.readouterr().out
    assert run(["compile", str(model), "--verify", "off", "--no-tuned"]) == 0
    assert "tuned" not in capsys.readouterr().out


def test_what_is_faster_only_alone_is_taken_back(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, half)
    tries: list[int] = []

    def times(*_: Any) -> list[dict[str, float]]:
        tries.append(1)
        return [dict.fromkeys(NAMES, 2.0), dict.fromkeys(NAMES, 2.0 if len(tries) == 1 else 1.0)]

    monkeypatch.setattr("graphopt.codegen.tuning.context.kernel_times", times)
    monkeypatch.setattr("graphopt.workflows.tune.latency", lambda *_: ModelLatency(2.0, 1.0, 2.0))
    report = graphopt.tune(program, trials=40)
    assert report.only_alone == 2 and report.trials == 40
    database = TuningDatabase(report.database.parent)
    back = [r for k in report.kernels for r in database.best_of_target(target_key(HERE)).values()]
    assert all(r.reason is None for r in back)
    assert graphopt.tune(program, trials=40, measure_model=False).trials == 0


def test_kernels_are_timed_inside_their_model(program: Program, tmp_path: Path) -> None:
    artifact = graphopt.compile(program)
    np.savez(tmp_path / "x.npz", x=np.zeros((10, 24), np.float32))
    first, second = kernel_times(artifact.path, artifact.path, tmp_path / "x.npz", 1, 0.1)
    assert {k.name for k in artifact.kernels() if k.rule == "packed-product"} <= set(first) == set(second)
    assert all(0 < t < 1e6 for t in first.values())


def test_an_interrupted_command_tells_what_was_won_and_goes_on_from_there(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def interrupted(kernel: Kernel, decisions: dict[str, int]) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls > 25:
            raise KeyboardInterrupt
        return half(kernel, decisions)

    scripted(monkeypatch, interrupted)
    assert run(["tune", str(model), "--trials", "60"]) == 130
    out, err = capsys.readouterr()
    assert "schedules tried" in out and "default us" in out
    assert "goes on from here" in err and "nothing was written" not in err
    scripted(monkeypatch, half)
    monkeypatch.setattr("graphopt.workflows.tune.latency", lambda *_: ModelLatency(2.0, 1.0, 2.0))
    assert run(["tune", str(model), "--trials", "30", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "30 schedules tried" not in out and "1.000 ms after (2.00x)" in out and err == ""


def test_what_cannot_be_tuned_is_an_error(
    program: Program, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_target("cuda").why_not_here() is not None:
        assert run(["tune", str(model), "--target", "cuda"]) == 6
        assert "error[GO-6002]" in capsys.readouterr().err
    else:
        with pytest.raises(TargetError):
            graphopt.tune(program, target="cuda")
    with pytest.raises(TargetError, match="cannot run here"):
        graphopt.tune(program, target="aarch64" if HERE.architecture == "x86_64" else "x86-64-v2")
    with pytest.raises(UsageError, match="no kernel is called") as caught:
        graphopt.tune(program, kernels="*attention*")
    assert "packed_matmul" in str(caught.value.hint)
    with pytest.raises(UsageError):
        graphopt.tune(program, trials=0)
    monkeypatch.setenv("GRAPHOPT_CACHE", "off")
    with pytest.raises(InputError, match="off") as nowhere:
        graphopt.tune(program)
    assert nowhere.value.code == "GO-3001"
    assert run(["compile", str(model), "--no-tuned", "--database", "x"]) == 2
