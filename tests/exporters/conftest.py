"""Small programs that the exporter tests share.  Programs are values: no test changes one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program


class Tied(nn.Module):
    """Convolution and two linears with one weight; a persistent, a non-persistent buffer, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.arange(1.0, 9.0))
        self.register_buffer("shift", torch.ones(8) / 3, persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.hardswish(self.conv(x))
        y = F.interpolate(y, scale_factor=2.0)
        pooled = y.mean((2, 3))
        z = self.second(self.first(pooled)) * self.scale + self.shift + torch.tensor([0.5] * 8)
        return F.gelu(z), z.split(3, 1)[1]


class Slices(nn.Module):
    """Symbolic sizes in arithmetic: a slice and a view that depend on the length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[1] // 2
        return x[:, :half].reshape(x.shape[0] * half, -1) * half


@pytest.fixture(scope="session")
def tied() -> Program:
    torch.manual_seed(0)
    return capture_torch(
        Tied().eval(),
        (torch.randn(2, 3, 6, 5),),
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64), 2: "height", 3: "width"},),
        input_names=["image"],
        output_names=["features", "middle"],
    )


@pytest.fixture(scope="session")
def sliced() -> Program:
    return capture_torch(
        Slices().eval(),
        (torch.randn(2, 7, 3),),
        dynamic_shapes=({0: "batch", 1: "length"},),
        input_names=["tokens"],
        output_names=["flat"],
    )


@pytest.fixture(scope="session")
def rewritten(tied: Program) -> Program:
    """A program at the dialect's level, with one rewrite in its log."""
    from graphopt.dialect import registry
    from graphopt.ir.rewriter import Rewriter

    registry.load()
    rewriter = Rewriter(tied, "fuse")
    node = next(n for n in rewriter.graph.nodes if n.target is torch.ops.aten.hardswish.default)
    with rewriter.rule("hard-swish", [node]), rewriter.before(node):
        new = rewriter.call(torch.ops.graphopt.hard_swish, node.args[0], 3.0, 6.0, 6.0)
        rewriter.replace(node, new)
    return rewriter.finish()


@pytest.fixture(scope="session", params=["tied", "sliced", "rewritten"])
def program(request: pytest.FixtureRequest) -> Program:
    return request.getfixturevalue(request.param)


@pytest.fixture
def inputs(program: Program) -> list[torch.Tensor]:
    """Inputs of other sizes than the captured ones."""
    torch.manual_seed(1)
    sizes = {"batch": 3, "height": 4, "width": 7, "length": 11}
    return [torch.randn(program.signature.resolve(s.shape, sizes)) for s in program.signature.inputs]
