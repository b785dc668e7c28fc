"""Small compiled programs that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphopt.codegen import Artifact, compile
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from tests.codegen.models import SmallNet


@pytest.fixture(scope="session")
def program() -> Program:
    batch = torch.export.Dim("batch", min=1, max=16)
    return capture_torch(SmallNet().eval(), (torch.zeros(2, 3, 12, 12),), dynamic_shapes=({0: batch},))


@pytest.fixture(scope="session")
def artifact(program: Program) -> Artifact:
    return compile(program, "cpu")


@pytest.fixture(scope="session")
def saved(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "model.so"
    artifact.save(path)
    return path
