"""A small program with weights and a dynamic batch, and a pass manager that leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphopt import PassManager, PassResult, Program, capture


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(scope="session")
def captured() -> Program:
    return capture(Net().eval(), (torch.randn(3, 4),), dynamic_shapes=({0: "batch"},))


@pytest.fixture
def program(captured: Program) -> Program:
    """A copy, for tests that break it."""
    return captured.copy()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder of this test: reproducers go there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


Run = Callable[..., PassResult]


@pytest.fixture
def run(program: Program) -> Run:
    """Runs passes on the program; no reproducer unless asked for."""

    def run(*passes: Any, calibration: Any = (), **settings: Any) -> PassResult:
        settings.setdefault("reproducer_dir", False)
        return PassManager(passes, **settings).run(program, calibration=calibration)

    return run
