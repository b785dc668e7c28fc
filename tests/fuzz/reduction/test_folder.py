"""The folder of a finding, the script in it, and the command that works on it."""

from __future__ import annotations

import functools
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planted_rules import NETWORK, Planted, Raises, WrongAxis, finding_of

import graphopt.fuzz.reduction.oracles as registry
from graphopt.cli.main import run
from graphopt.errors import InputError
from graphopt.fuzz.campaign.corpus import case_text
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.findings import Finding, Problem, Signature
from graphopt.fuzz.oracles import Subject
from graphopt.fuzz.reduction import Reduced, isolated, read_case, read_finding, reduce, write_finding
from graphopt.fuzz.reduction.slicing import returning
from graphopt.ir.program import Program


class Healthy(Planted):
    """The same compiler without the bug."""

    def problem(self, program: object) -> None:
        return None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "known_oracles", lambda: {"planted": Planted(WrongAxis)})


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "known_oracles", lambda: {"planted": Healthy(WrongAxis)})


@pytest.fixture(scope="module")
def reduced() -> Reduced:
    return reduce(finding_of(WrongAxis, ("cleanup", "dead-code")), Planted(WrongAxis))


@pytest.fixture
def folder(tmp_path: Path, reduced: Reduced) -> Path:
    write_finding(tmp_path / "found", reduced, "planted", command="graphopt fuzz --seed 7")
    return tmp_path / "found"


def script_status(folder: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(folder / "repro.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_the_folder_holds_the_case_its_numbers_and_the_reports(folder: Path, reduced: Reduced) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "graph.json", "inputs.npz", "report.json", "report.md", "repro.py",
    ]  # fmt: skip
    assert read_case(folder / "graph.json") == reduced.case
    stored = read_finding(folder)
    assert (stored.finding.case, stored.original) == (reduced.case, reduced.original)
    assert (stored.oracle, stored.command) == ("planted", "graphopt fuzz --seed 7")
    assert stored.finding.signature == reduced.finding.signature
    arrays = np.load(folder / "inputs.npz")
    (name,) = (key for key in arrays if key.startswith("input."))
    x, expected = arrays[name].astype(np.float64), arrays["expected.0"]
    assert expected.dtype == np.float64
    assert np.abs(np.exp(x) / np.exp(x).sum(-1, keepdims=True) - expected).max() < 1e-15
    report = (folder / "report.md").read_text()
    for words in (
        "planted:contract:value",
        "14 -> 1",
        "aten.softmax.int(",
        "graphopt fuzz --seed 7",
        "torch",
    ):
        assert words in report
    assert (folder / "report.json").read_text() == json.dumps(
        json.loads((folder / "report.json").read_text()), indent=1
    ) + "\n"


@pytest.mark.usefixtures("installed")
def test_the_script_fails_while_the_problem_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script_status(folder) == 1
    assert "FAILED: exact" in capsys.readouterr().out


@pytest.mark.usefixtures("mended")
def test_the_script_passes_when_it_is_gone(folder: Path) -> None:
    assert script_status(folder) == 0
    assert run(["reduce", str(folder), "--check"]) == 0


@pytest.mark.usefixtures("installed")
def test_the_command_checks_and_reduces_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reduce", str(folder), "--check"]) == 7
    assert "error[GO-7000]: still there: planted:contract:value" in capsys.readouterr().err
    (folder / "notes.txt").write_text("mine")
    before = read_finding(folder)
    assert run(["reduce", str(folder), "--budget", "5", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["calls"] == 5 and data["operators"] == {"original": 14, "reduced": 13}
    after = read_finding(folder)
    assert after.original == before.original and after.finding.case != before.finding.case
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("installed")
def test_the_file_of_a_case_is_reduced_into_a_folder(folder: Path, tmp_path: Path) -> None:
    graph, out = str(folder / "graph.json"), tmp_path / "out"
    assert run(["reduce", graph]) == 2
    assert run(["reduce", graph, "-o", str(out), "-q"]) == 0
    assert read_finding(out).oracle == "planted"
    assert run(["reduce", graph, "--check", "-o", str(out)]) == 2
    assert run(["reduce", graph, "--check", "--oracle", "plnted"]) == 2


@pytest.mark.usefixtures("mended")
def test_what_did_not_come_back_is_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "report.json").read_bytes()
    assert run(["reduce", str(folder)]) == 3
    assert "did not come back" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() == before
    assert run(["reduce", str(folder / "graph.json"), "-o", str(folder / "new")]) == 3


def test_files_that_are_no_findings_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"schema": "graphopt.recipe/1"}')
    for name in ("broken.json", "other.json", "absent.json"):
        assert run(["reduce", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 3
    report = folder / "report.json"
    for text in ("[]", '{"schema": "graphopt.fuzz.finding/1"}', report.read_text().replace('"ref"', '"rif"')):
        report.write_text(text)
        with pytest.raises(InputError, match="no report of a finding"):
            read_finding(folder)
    report.unlink()
    assert run(["reduce", str(folder)]) == 3


def test_nothing_is_left_where_a_folder_cannot_be_written(tmp_path: Path, reduced: Reduced) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        write_finding(tmp_path / "taken", reduced, "planted")
    with pytest.raises(InputError, match="there is no folder"):
        write_finding(tmp_path / "absent" / "found", reduced, "planted")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_facts_and_text_of_all_kinds_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = reduce(finding_of(Raises), Planted(Raises))
    facts = {"error": float("inf"), "shape": (1, 2), "dtype": np.float32, "n": {"a": None}, "p|q": "a | b\nc"}
    problem = Problem(reduced.finding.signature, 'it said """no""" \\ and {left}', facts)
    write_finding(tmp_path / "f", replace(reduced, finding=Finding(reduced.case, problem)), "planted")
    assert read_finding(tmp_path / "f").finding.problem.facts["error"] == "inf"
    assert "a \\| b c" in (tmp_path / "f" / "report.md").read_text()
    monkeypatch.setattr(registry, "known_oracles", lambda: {"planted": Planted(Raises)})
    assert script_status(tmp_path / "f") == 1


def test_a_case_that_kills_its_process_is_reduced_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    lethal = functools.partial(Settings, oracles="lethal_oracles:oracles", recycle=1000)
    monkeypatch.setattr(isolated, "Settings", lethal)
    case = replace(finding_of(WrongAxis).case, graph=returning(NETWORK, "rectified"))
    outside = isolated.Isolated(())
    try:
        (problem,) = outside.check(Subject(case))
        assert problem.signature.kind == "crash" and problem.signature.oracle == "contract"
        reduced = reduce(Finding(case, problem), outside, budget=3)
    finally:
        outside.close()
    assert reduced.reproduced and reduced.case.graph.outputs == ("negated",)


def test_the_command_looks_from_outside_where_it_has_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Problem(Signature("codegen", "planted", "crash", "SIGSEGV"), "it died")

    class Outside(Planted):
        def __init__(self, backends: tuple[str, ...]) -> None:
            super().__init__(WrongAxis)

        def problem(self, program: Program) -> Problem | None:
            return crash if super().problem(program) else None

    monkeypatch.setattr(isolated, "Isolated", Outside)
    monkeypatch.setattr(registry, "known_oracles", lambda: {"planted": Healthy(WrongAxis)})
    (tmp_path / "case.json").write_text(case_text(finding_of(WrongAxis).case, "deadly"))
    found, case = str(tmp_path / "found"), str(tmp_path / "case.json")
    assert run(["reduce", case, "-o", found, "-q"]) == 3  # nothing is seen from inside
    assert run(["reduce", case, "-o", found, "-q", "--isolate"]) == 0
    assert read_finding(found).finding.signature == crash.signature
    assert run(["reduce", found, "--check"]) == 7
    assert "codegen:planted:crash:SIGSEGV" in capsys.readouterr().err
    assert script_status(Path(found)) == 1
