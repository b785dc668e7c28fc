"""Instruments see every pass, and change nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from graphopt import Dump, Instrument, PassError, PrintProgram, Progress, Timing
from tests.passmanager import planted
from tests.passmanager.test_manager import Both


class Diary(Instrument):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def before_pipeline(self, program: Any, passes: Any) -> None:
        self.lines.append(f"start {len(passes)}")

    def before_pass(self, item: Any, program: Any, depth: int) -> None:
        self.lines.append(f"{'  ' * depth}before {item.name}")

    def after_pass(self, item: Any, program: Any, record: Any, depth: int) -> None:
        self.lines.append(f"{'  ' * depth}after {item.name} {record.changed}")

    def after_pipeline(self, program: Any) -> None:
        self.lines.append("end")

    def on_failure(self, item: Any, program: Any, error: Any) -> None:
        self.lines.append(f"failed {item.name} {error.code}")


def test_hooks_in_order(run: Any) -> None:
    diary = Diary()
    run("test-nothing", Both(planted.ReluAsClamp()), instruments=[diary])
    assert diary.lines == [
        "start 2",
        "before test-nothing",
        "after test-nothing False",
        "before test-both",
        "  before test-relu-as-clamp",
        "  after test-relu-as-clamp True",
        "after test-both True",
        "end",
    ]
    diary = Diary()
    with pytest.raises(PassError):
        run("test-raises", instruments=[diary])
    assert diary.lines == ["start 1", "before test-raises", "failed test-raises GO-4000"]


def test_timing(run: Any) -> None:
    timing = Timing()
    run("test-nothing", Both(planted.ReluAsClamp()), instruments=[timing])
    assert [(name, depth) for name, depth, _ in timing.seconds] == [
        ("test-nothing", 0),
        ("test-relu-as-clamp", 1),
        ("test-both", 0),
    ]
    assert all(seconds >= 0 for *_, seconds in timing.seconds)
    assert len(str(timing).splitlines()) == 3


def test_print_program(run: Any) -> None:
    out = io.StringIO()
    run("test-nothing", "test-relu-as-clamp", instruments=[PrintProgram(file=out)])
    assert out.getvalue().count("//") == 1, "what did not change is not printed"
    assert "// after test-relu-as-clamp" in out.getvalue() and "clamp_min" in out.getvalue()
    out = io.StringIO()
    only = PrintProgram(("test-relu-as-clamp",), before=True, after=False, file=out)
    run("test-nothing", "test-relu-as-clamp", instruments=[only])
    assert "// before test-relu-as-clamp" in out.getvalue() and "clamp_min" not in out.getvalue()


def test_dump(run: Any, tmp_path: Path) -> None:
    run(planted.Lossily(1.002), "test-relu-as-clamp", instruments=[Dump(tmp_path / "dump")])
    files = sorted(p.name for p in (tmp_path / "dump").iterdir())
    assert files == ["00-input.txt", "01-test-lossy_factor_1.002.txt", "02-test-relu-as-clamp.txt"]
    assert "clamp_min" not in (tmp_path / "dump" / files[1]).read_text()
    assert "clamp_min" in (tmp_path / "dump" / files[2]).read_text()


def test_progress(run: Any) -> None:
    out = io.StringIO()
    run("test-nothing", Both(planted.ReluAsClamp()), instruments=[Progress(out)])
    first, second = out.getvalue().splitlines()
    assert first.startswith("test-nothing: 3 -> 3 operators, 0 rewrites")
    assert second.startswith("test-both: 3 -> 3 operators, 1 rewrites") and "exact: " in second
