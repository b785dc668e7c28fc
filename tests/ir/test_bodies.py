"""Branches and loops: graphs inside a program."""

import pytest
import torch
from torch import nn

import graphopt
from graphopt.errors import InputError, PassError
from graphopt.ir.bodies import bodies
from graphopt.ir.program import Program
from graphopt.verification import verify

aten = torch.ops.aten


class _Branch(nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(
            x.sum() > 0, lambda x: self.linear(x).view(3, 2), lambda x: x.reshape(3, 2) + self.offset, (x,)
        )


def _program(offset: float = 1.0) -> Program:
    torch.manual_seed(0)
    return graphopt.capture(_Branch(offset).eval(), (torch.randn(2, 3),)).check()


def test_a_captured_branch_and_its_text() -> None:
    text = _program().text()
    assert "%2 = cond(%1, @true_graph_0, @false_graph_0, [%x, " in text
    assert text.endswith(
        """\
  body @true_graph_0(%in0: f32[2, 3], %in1: f32[3], %in2: f32[3, 3])
    %0 = aten.linear(%in0, %in2, %in1) : f32[2, 3]
    %1 = aten.reshape(%0, [3, 2]) : f32[3, 2]
    return [%1]
  body @false_graph_0(%in0: f32[2, 3], %in1: f32[3], %in2: f32[3, 3])
    %0 = aten.reshape(%in0, [3, 2]) : f32[3, 2]
    %1 = aten.add(%0, 1.0) : f32[3, 2]
    return [%1]
"""
    )


def test_tensors_that_a_body_makes_are_operands() -> None:
    class Constants(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def inner(x: torch.Tensor) -> torch.Tensor:
                return torch.cond(x[0] > 3, lambda x: x * torch.tensor([1.0, 2.0]), lambda x: x + 1, (x,))

            return torch.cond(x.sum() > 0, inner, lambda x: x - torch.tensor(0.5), (x,))

    program = graphopt.capture(Constants().eval(), (torch.ones(2),)).check()
    assert sorted(c.numel() for c in program.constants.values()) == [1, 2]
    for x in ([-1.0, -1.0], [1.0, 1.0], [4.0, 4.0]):
        assert torch.equal(program(torch.tensor(x))[0], Constants()(torch.tensor(x)))


def test_a_branch_that_writes_in_place_is_refused() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda x: x.clone().add_(1), lambda x: x * 2, (x,))

    with pytest.raises(InputError, match="a branch or loop calls aten.add_.Tensor") as caught:
        graphopt.capture(Writes().eval(), (torch.ones(2),))
    assert caught.value.code == "GO-3007"


def test_the_hash_sees_bodies() -> None:
    assert _program().structural_hash() == _program().structural_hash()
    assert _program(1.0).structural_hash() != _program(2.0).structural_hash()


def test_verification_runs_bodies_in_its_own_precision() -> None:
    program = _program()
    report = verify(program, program)
    report.raise_if_failed()
    changed = _program()
    (_, body) = [b for b in bodies(changed.graph_module) if "false" in b[0]][0]
    add = body.graph.find_nodes(op="call_function", target=aten.add.Tensor)[0]
    add.args = (add.args[0], 1.001)
    body.recompile()
    assert not verify(program, changed).ok


def test_a_body_with_a_weight_of_its_own_is_an_error() -> None:
    program = _program()
    (name, body) = next(bodies(program.graph_module))
    body.register_buffer("secret", torch.ones(3, 2))
    output = body.graph.output_node()
    with body.graph.inserting_before(output):
        secret = body.graph.get_attr("secret")
    output.args = ((secret,),)
    with pytest.raises(PassError, match=f"body {name!r} reads 'secret' from outside"):
        program.check()


def test_a_body_that_changes_its_operand_is_an_error() -> None:
    program = _program()
    (_, body) = next(bodies(program.graph_module))
    node = body.graph.find_nodes(op="call_function", target=aten.reshape.default)[0]
    with body.graph.inserting_before(node):
        body.graph.call_function(aten.zero_.default, (node.args[0],))
    with pytest.raises(PassError, match="in body 'true_graph_0': aten.zero_.default changes its argument"):
        program.check()
