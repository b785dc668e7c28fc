"""A program with dialect ops goes through every exit: `.pt2`, ONNX, compiled code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphopt.codegen import compile, load_artifact
from graphopt.dialect import registry
from graphopt.exporters.onnx import to_onnx
from graphopt.exporters.pt2 import load_pt2, save_pt2
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")


class _Block(torch.nn.Module):
    """A pruned decoder block: counted norm, rotary, grouped attention with a cap, SwiGLU."""

    heads, kv_heads, width, head_dim, hidden = 4, 2, 12, 6, 10

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.Parameter(torch.rand(self.width) + 0.5)
        self.qkv = torch.nn.Linear(self.width, (self.heads + 2 * self.kv_heads) * self.head_dim)
        self.out = torch.nn.Linear(self.heads * self.head_dim, self.width)
        self.gate_up = torch.nn.Linear(self.width, 2 * self.hidden)
        self.down = torch.nn.Linear(self.hidden, self.width)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ops = torch.ops.graphopt
        y = self.qkv(ops.rms_norm_counted(x, self.norm, 1e-6, 16))
        y = y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = y.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = (ops.rotary_embedding(t, cos, sin, False, 4) for t in (q, k))
        y = ops.attention(q, k, v, None, 0.4, True, 20.0)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y = ops.layer_norm_counted(x, self.norm, None, 1e-5, 16)
        gate, up = self.gate_up(y).chunk(2, dim=-1)
        return x + self.down(ops.silu_mul(gate, up))


@pytest.fixture(scope="module")
def program() -> Program:
    registry.load()
    angles = torch.rand(5, 2)
    return capture_torch(
        _Block().eval(),
        (torch.randn(2, 5, 12), angles.cos(), angles.sin()),
        dynamic_shapes=({0: "batch", 1: "seq"}, {0: "seq"}, {0: "seq"}),
    )


def test_the_program_holds_dialect_ops(program: Program) -> None:
    targets = {n.target for n in program.graph.nodes if registry.is_dialect(n.target)}
    assert {t.name() for t in targets} == {
        "graphopt::rms_norm_counted",
        "graphopt::layer_norm_counted",
        "graphopt::rotary_embedding",
        "graphopt::attention",
        "graphopt::silu_mul",
    }


def test_the_captured_program_is_at_the_level_of_the_dialect(program: Program) -> None:
    assert program.level is Level.GRAPHOPT
    program.check()


def test_pt2(program: Program, tmp_path: Path) -> None:
    save_pt2(program, tmp_path / "block.pt2")
    again = load_pt2(tmp_path / "block.pt2")
    assert again.structural_hash() == program.structural_hash()
    verify(program, again).raise_if_failed()


def test_onnx(program: Program, tmp_path: Path) -> None:
    to_onnx(program, tmp_path / "block.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "block.onnx")).raise_if_failed()


def test_compiled(program: Program, tmp_path: Path) -> None:
    compile(program, target="cpu").save(tmp_path / "block.so")
    verify(program, load_artifact(tmp_path / "block.so")).raise_if_failed()


def test_gradients_flow_through_a_captured_program(program: Program) -> None:
    x = torch.randn(2, 4, 12, requires_grad=True)
    angles = torch.rand(4, 2)
    (y,) = program.graph_module(x, angles.cos(), angles.sin())
    y.square().sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
