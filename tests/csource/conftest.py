"""A small model as a folder of C."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from graphopt.codegen import compile, toolchain
from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from tests.codegen.models import SmallNet

needs_compiler = pytest.mark.skipif(toolchain.find_c_compiler() is None, reason="no C compiler is installed")


@pytest.fixture(scope="session")
def program() -> Program:
    batch = torch.export.Dim("batch", min=1, max=16)
    return capture_torch(SmallNet().eval(), (torch.zeros(2, 3, 12, 12),), dynamic_shapes=({0: batch},))


@pytest.fixture(scope="session")
def artifact(program: Program) -> SourceArtifact:
    return cast(SourceArtifact, compile(program, "c"))


@pytest.fixture(scope="session")
def folder(artifact: SourceArtifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "model"
    artifact.save(path)
    return path
