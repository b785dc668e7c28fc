"""``graphopt fuzz``: options, output and exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt.cli.main import run
from graphopt.fuzz.campaign import settings as settings_module
from graphopt.fuzz.campaign.runner import Campaign
from tests.fuzz.campaign.conftest import planted

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fuzz(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command with the planted profile."""
    changes = planted(replay=True).to_dict() | {"backends": ()}
    monkeypatch.setitem(settings_module.PROFILES, "planted", changes)
    monkeypatch.setitem(
        settings_module.PROFILES, "none", changes | {"oracles": "tests.fuzz.campaign.planted:no_oracles"}
    )

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(["fuzz", *map(str, words)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


def test_findings_end_with_seven_and_reports_are_written(fuzz: Command, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    files = {name: tmp_path / name for name in ("r.json", "j.xml", "s.sarif", "c.html")}
    status, out, err = fuzz(
        *("--profile", "planted", "--cases", 14, "--jobs", 1, "--corpus", tmp_path / "corpus"),
        *("--json", files["r.json"], "--junit", files["j.xml"]),
        *("--sarif", files["s.sarif"], "--html", files["c.html"]),
    )
    assert status == 7
    assert "error[GO-7000]: the fuzzer found" in err and "found generator:generate" in err
    assert "fuzzing with seed 0: 14 cases, 1 worker" in err
    assert "14 cases through the passes" in out and "coverage: " in out and "0/13" in out
    report = json.loads(files["r.json"].read_text())
    assert report["schema"] == "graphopt.fuzz/1" and report["cases"]["passes"] == 14
    assert json.loads(files["s.sarif"].read_text())["version"] == "2.1.0"
    assert files["j.xml"].read_text().startswith("<?xml") and files["c.html"].read_text().startswith(
        "<!DOCTYPE"
    )


def test_nothing_found_ends_with_zero_and_an_interrupt_with_130(
    fuzz: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: tuple[object, ...] = ("--profile", "none", "--no-replay", "--jobs", 1)
    status, out, err = fuzz(*words, "--only", 3, "--json", "-", "--quiet")
    assert status == 0 and err == ""
    assert json.loads(out)["statuses"] == {"ok": 1}

    chunks = Campaign._chunks

    def interrupted(self: Campaign, start: float) -> Any:
        yield next(chunks(self, start))
        raise KeyboardInterrupt

    monkeypatch.setattr(Campaign, "_chunks", interrupted)
    out_folder = tmp_path / "out"
    words = (*words, "--out", out_folder)
    status, out, err = fuzz(*words)
    assert status == 130
    assert "16 cases through the passes" in out
    assert "interrupted; this is what was found until then" in err
    assert f"'graphopt fuzz --resume {out_folder}' goes on" in err
    assert json.loads((out_folder / "report.json").read_text())["interrupted"] is True
    assert "the folder is not empty" in fuzz(*words)[2]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--passes", "clenup"], 2, "error[GO-2001]: there is no pass 'clenup'"),
        (["--profile", "nightli"], 2, "did you mean 'nightly'?"),
        (["--backends", "gpu9", "--cases", "1", "--no-replay"], 2, "error[GO-2003]"),
        (["--resume", ".", "--seed", "3"], 2, "--resume has --seed from its folder"),
        (["--resume", "."], 3, "error[GO-3001]: there is no campaign to resume"),
        (["--corpus", "absent"], 3, "error[GO-3001]: there is no folder"),
        (["--cases", "-1"], 2, "error[GO-2000]"),
        (["--jobs", "0"], 2, "error[GO-2000]"),
        (["--only", "-4"], 2, "error[GO-2000]"),
        (["--json", "absent/r.json"], 3, "there is no folder 'absent'"),
        (["--scheduler", "local:x", "--no-replay"], 2, "local:N needs a number"),
    ],
)
def test_requests_that_cannot_be_met(
    fuzz: Command,
    words: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, _, err = fuzz(*words)
    assert (ended, message in err) == (status, True), err
    assert list(tmp_path.iterdir()) == []
