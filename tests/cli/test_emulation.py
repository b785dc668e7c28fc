"""``graphopt compile --target cuda --verify emulate``, with schedules that are right and one that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphopt.codegen import nvrtc, toolchain
from tests.cli.conftest import Graphopt

needs_compiler = pytest.mark.skipif(
    toolchain.find_nvcc() is None and not nvrtc.is_installed(), reason="nothing compiles CUDA here"
)
COMMAND = ("compile", "model.onnx", "-o", "gpu.so", "--target", "cuda:sm_80", "--draws", 1)


@needs_compiler
def test_right_schedules_pass(graphopt: Graphopt, here: Path) -> None:
    done = graphopt(*COMMAND, "--verify", "emulate", "--json", here / "report.json")
    assert done.status == 0 and (here / "gpu.so").exists()
    emulated = json.loads((here / "report.json").read_text())["emulated"]
    assert emulated and all(check["ok"] for check in emulated)


@needs_compiler
def test_a_wrong_schedule_leaves_no_artifact(
    graphopt: Graphopt, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unguarded(schedule: Any, epilogue: Any) -> Any:
        return schedule  # whole tiles are written, beyond the result

    monkeypatch.setattr("graphopt.codegen.schedules.cuda.gemm.guard_epilogue", unguarded)
    before = sorted(here.iterdir())
    done = graphopt(*COMMAND, "--verify", "emulate")
    assert done.status == 5
    assert "GO-5003" in done.err and "cuda-core-gemm" in done.err and "bounds" in done.err
    assert sorted(here.iterdir()) == before


def test_no_compiler_is_said_before_the_work(
    graphopt: Graphopt, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "find_nvcc", lambda: None)
    monkeypatch.setattr(nvrtc, "is_installed", lambda: False)
    done = graphopt(*COMMAND)
    assert done.status == 6 and "GO-6001" in done.err and "graphopt[cuda]" in done.err
    assert not (here / "gpu.so").exists()
