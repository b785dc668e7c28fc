"""Small compiled programs that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from graphopt.codegen import Artifact, compile
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program


class SmallNet(nn.Module):
    """A convolution, an activation and a softmax; also returns its input and a weight as they are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("anchors", torch.arange(6.0))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(self.conv(image))
        return y, torch.softmax(y.flatten(2), -1), image, image.flatten(1), self.anchors


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
