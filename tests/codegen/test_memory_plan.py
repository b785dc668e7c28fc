"""Memory is planned for the sizes of a call, not for the largest that the signature allows."""

import re

import torch
from torch import nn
from torch.export import Dim

from graphopt.codegen.pipeline import run_pipeline
from graphopt.codegen.relax import lower
from graphopt.codegen.targets import find_target
from graphopt.frontends.torch_module import capture_torch


class Scores(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x @ x.transpose(1, 2), -1) @ x


def test_an_upper_bound_is_not_allocated() -> None:
    length = Dim("length", min=2, max=65536)
    program = capture_torch(Scores().eval(), (torch.randn(2, 8, 4),), dynamic_shapes=({1: length},))
    text = run_pipeline(lower(program).mod, find_target("cpu"))["main"].script()
    constant = [int(size) for size in re.findall(r"alloc_storage\(R\.shape\(\[(\d+)\]\)", text)]
    assert "alloc_storage" in text
    assert all(size < 2**20 for size in constant), constant
