"""The first wrong node is found, and nothing is found where all agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.verification import draw_inputs
from graphopt.verification.localise import localise


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)).sigmoid()).softmax(-1)


def replaced(program: Program, name: str, target: object) -> Program:
    rewriter = Rewriter(program, "test")
    node = next(n for n in rewriter.graph.nodes if n.name == name)
    with rewriter.rule("swap", [node]), rewriter.before(node):
        rewriter.replace(node, rewriter.call(target, *node.args))
    return rewriter.finish()


def test_first_wrong_node() -> None:
    program = capture_torch(Net().eval(), (torch.randn(2, 8),))
    inputs = draw_inputs(program).tensors
    assert localise(program, program.copy(), inputs) is None
    found = localise(program, replaced(program, "tanh", torch.ops.aten.erf.default), inputs)
    assert found is not None
    assert found.node == "sigmoid" and found.agreed == ("linear",) and found.between == ("erf_default",)
    assert "sigmoid" in str(found) and "erf" in str(found)


def test_equivalent_rewrite_is_not_a_divergence() -> None:
    program = capture_torch(Net().eval(), (torch.randn(2, 8),))
    copy = replaced(program, "tanh", torch.ops.aten.tanh.default)
    assert localise(program, copy, draw_inputs(program).tensors) is None
