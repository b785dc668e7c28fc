"""The command that runs ONNX's backend tests, and its list of tests that must go on passing."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.conformance.cases import SUITES, case, case_names
from benchmarks.conformance.ratchet import lost, read_ratchet, sample, write_ratchet
from benchmarks.conformance.reasons import REASONS, reason_of
from benchmarks.conformance.runner import run_case
from benchmarks.onnx_conformance import main
from graphopt.frontends.onnx.registry import CONVERTERS, Converter


def test_a_listed_test_that_fails_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "passing.txt"
    write_ratchet(path, ["node/test_abs"])
    assert main(["--ratchet", str(path), "--jobs", "1"]) == 0
    assert "1 of 1 listed tests pass" in capsys.readouterr().out
    write_ratchet(path, ["node/test_abs", "node/test_string_concat"])
    assert main(["--ratchet", str(path), "--jobs", "1"]) == 1
    assert "no longer passes: node/test_string_concat" in capsys.readouterr().out


def test_a_listed_test_that_onnx_no_longer_has_is_named(tmp_path: Path) -> None:
    path = tmp_path / "passing.txt"
    write_ratchet(path, ["node/test_that_never_was"])
    assert main(["--ratchet", str(path), "--jobs", "1"]) == 1


def test_the_list_grows_and_is_sorted(tmp_path: Path) -> None:
    path = tmp_path / "passing.txt"
    write_ratchet(path, ["node/test_zzz"])
    assert (
        main(["--update-ratchet", str(path), "--filter", "^test_(neg|abs|string_concat)$", "--jobs", "1"])
        == 0
    )
    assert read_ratchet(path) == ["node/test_abs", "node/test_neg", "node/test_zzz"]
    assert lost(read_ratchet(path), {"node/test_abs", "node/test_neg"}) == ["node/test_zzz"]


def test_a_sample_does_not_depend_on_the_other_entries() -> None:
    entries = [f"node/test_{i}" for i in range(400)]
    chosen = sample(entries, one_in=8)
    assert 25 < len(chosen) < 75
    assert sample(entries[100:], one_in=8) == [e for e in chosen if e in entries[100:]]


def test_both_paths_are_written_to_json(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.json"
    main(["--filter", "^test_relu$", "--through-export", "--json", str(path)])
    (outcome,) = json.loads(path.read_text())
    assert (outcome["status"], outcome["export"]) == ("dynamic", "passed")


def test_a_wrong_converter_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Converter("", "Relu", 1, lambda call, x: torch.abs(x))
    monkeypatch.setattr(CONVERTERS, "find", lambda *key: wrong)
    outcome = run_case(case("node", "test_relu"))
    assert (outcome.status, outcome.passed) == ("mismatch", False)
    assert "largest difference" in outcome.detail


def test_every_suite_is_there_and_every_reason_has_tests() -> None:
    names = {suite: case_names(suite) for suite in SUITES}
    assert all(names.values())
    every = [n for members in names.values() for n in members]
    for reason in REASONS:
        assert any(reason_of(n) == reason.text for n in every), reason
    passing = [e.partition("/")[2] for e in read_ratchet(Path(__file__).parent / "passing.txt")]
    assert not [n for n in passing if reason_of(n) is not None]
