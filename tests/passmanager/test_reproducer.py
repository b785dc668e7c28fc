"""What a failure leaves behind shows it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from graphopt import GraphoptError, PassManager, Program
from graphopt.cli.main import run as graphopt
from tests.passmanager import planted


def _failing(program: Program, folder: Path, *passes: Any, **settings: Any) -> tuple[GraphoptError, Path]:
    calibration = settings.pop("calibration", ())
    with pytest.raises(GraphoptError) as caught:
        PassManager(passes, reproducer_dir=folder, **settings).run(program, calibration)
    (found,) = folder.iterdir()
    return caught.value, found


@pytest.mark.parametrize(
    ("passes", "status"),
    [
        (["test-relu-as-clamp", "test-raises"], 4),
        (["test-relu-as-clamp", planted.Breaks("operands")], 4),
        (["test-relu-as-clamp", planted.Double(3.0)], 5),
        (["test-ensures", "test-requires"], 5),
    ],
)
def test_the_command_shows_the_failure_again(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str], passes: list[Any], status: int
) -> None:
    error, folder = _failing(program, tmp_path / "repro", *passes)
    assert error.exit_status == status
    assert {p.name for p in folder.iterdir()} == {"program.pt2", "program.txt", "pass.json"}
    details = json.loads((folder / "pass.json").read_text())
    assert details["error"]["code"] == error.code
    assert error.hint is not None and error.hint.endswith(f"reproduce with: {details['command']}")
    words = shlex.split(details["command"])
    assert words[0] == "graphopt"
    assert graphopt(words[1:]) == status
    assert f"error[{error.code}]" in capsys.readouterr().err


def test_the_program_is_the_input_of_the_pass(program: Program, tmp_path: Path) -> None:
    _, folder = _failing(program, tmp_path / "repro", "test-relu-as-clamp", "test-raises")
    assert "clamp_min" in (folder / "program.txt").read_text()
    assert json.loads((folder / "pass.json").read_text())["passes"] == "test-raises"


def test_settings_and_data_are_part_of_it(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = [(torch.randn(2, 4),), (torch.randn(5, 4),)]
    settings = {"calibration": batches, "verify": "final", "draws": 1, "seed": 7}
    _, folder = _failing(program, tmp_path / "repro", "test-counts-batches", "test-double", **settings)
    command = json.loads((folder / "pass.json").read_text())["command"]
    assert "--passes test-counts-batches,test-double --verify final --draws 1 --seed 7 --inputs" in command
    assert sorted(p.name for p in (folder / "inputs").iterdir()) == ["000.npz", "001.npz"]
    assert graphopt(shlex.split(command)[1:]) == 5
    assert "after the pipeline" in capsys.readouterr().err


def test_none_is_written_where_none_is_wanted_or_of_use(program: Program, scratch: Path) -> None:
    with pytest.raises(GraphoptError, match="test-raises"):
        PassManager("test-raises", reproducer_dir=False).run(program)
    with pytest.raises(GraphoptError, match="requires folded"):
        PassManager("test-requires").run(program)
    assert list(scratch.iterdir()) == []
    with pytest.raises(GraphoptError, match="reproduce with"):
        PassManager("test-raises").run(program)
    assert len(list(scratch.iterdir())) == 1


def test_the_failure_itself_is_told_when_no_reproducer_can_be_written(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GraphoptError, match="pass 'test-raises' failed") as caught:
        PassManager("test-raises", reproducer_dir=tmp_path / "file").run(program)
    assert caught.value.hint is not None and "no reproducer could be written" in caught.value.hint
