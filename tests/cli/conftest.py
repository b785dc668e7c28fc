"""Runs commands in this process, on models that take milliseconds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli.main import run
from tests.cli import models


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


Graphopt = Callable[..., Outcome]


@pytest.fixture
def graphopt(capsys: pytest.CaptureFixture[str]) -> Graphopt:
    """Runs one command."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Outcome(status, out, err)

    return call


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder of this test: reproducers and details of errors go there."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.onnx``, ``other.onnx`` (other weights), ``x.npz`` (inputs), ``model.so``; only to be read."""
    folder = tmp_path_factory.mktemp("material")
    onnx.save(models.model(), folder / "model.onnx")
    onnx.save(models.model(weight=models.WEIGHT * 2), folder / "other.onnx")
    np.savez(folder / "x.npz", x=models.DRAW.normal(size=(3, 8)).astype(np.float32))
    assert run(["compile", str(folder / "model.onnx"), "-o", str(folder / "model.so"), "--quiet"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, material: Path) -> Path:
    """The current folder, with the model and inputs in it, under short names."""
    for name in ("model.onnx", "other.onnx", "x.npz", "model.so"):
        (tmp_path / name).symlink_to(material / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
