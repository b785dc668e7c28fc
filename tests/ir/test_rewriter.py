"""The rewriter: values, origins, records, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphopt import PassError, Program, Rewriter, capture
from graphopt.ir.level import Level
from graphopt.ir.provenance import origin

aten = torch.ops.aten


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.Hardswish())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.fixture
def program() -> Program:
    return capture(Net().eval(), (torch.randn(2, 3),), dynamic_shapes=({0: "n"},))


def find(rewriter: Rewriter, target: object) -> torch.fx.Node:
    return next(n for n in rewriter.graph.nodes if n.target is target)


def test_a_rewrite_end_to_end(program: Program) -> None:
    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.hardswish.default)
    x = old.args[0]
    with rewriter.rule("expand", [old]), rewriter.before(old):
        gate = rewriter.call(aten.clamp, rewriter.call(aten.add, x, 3.0), 0.0, 6.0)
        new = rewriter.call(aten.div, rewriter.call(aten.mul, x, gate), 6.0)
        rewriter.replace(old, new)
    result = rewriter.finish().check()
    assert origin(new).layers == ("body.1",)
    assert origin(new).made_by == ("test/expand",)
    (event,) = result.provenance.events
    assert event.erased == ("hardswish",) and len(event.created) == 4
    assert program.provenance.events == []
    assert "hardswish" in program.text() and "hardswish" not in result.text()
    sample = torch.randn(5, 3)
    assert torch.allclose(result(sample)[0], program(sample)[0])


def test_overloads_are_picked_as_torch_does(program: Program) -> None:
    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.hardswish.default)
    with rewriter.rule("r", [old]), rewriter.before(old):
        assert rewriter.call(aten.mul, old.args[0], 2.0).target is aten.mul.Tensor
        assert rewriter.call(aten.mean, old.args[0], [0], True).target is aten.mean.dim
        assert rewriter.call(aten.to, old.args[0], torch.float64).target is aten.to.dtype


def test_calls_that_torch_rejects_name_the_rule_and_the_layer(program: Program) -> None:
    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.hardswish.default)
    with pytest.raises(PassError, match="'bad'") as caught, rewriter.rule("bad", [old]), rewriter.before(old):
        rewriter.call(aten.linear, old.args[0], old.args[0], old.args[0])
    assert caught.value.layer == "body.1"
    rewriter.finish().check()
    with pytest.raises(PassError, match="no overload"), rewriter.rule("bad", [old]), rewriter.before(old):
        rewriter.call(aten.mul, old.args[0], "text")


def test_a_failing_rule_leaves_nothing(program: Program) -> None:
    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.hardswish.default)
    with pytest.raises(RuntimeError), rewriter.rule("r", [old]), rewriter.before(old):
        rewriter.call(aten.relu, rewriter.call(aten.neg, old.args[0]))
        raise RuntimeError
    assert rewriter.finish().structural_hash() == program.structural_hash()


def test_constants_get_free_names_and_keep_their_kind(program: Program) -> None:
    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.linear.default)
    with rewriter.rule("fold", [old]), rewriter.before(old):
        weight = rewriter.constant("body.0.weight", nn.Parameter(torch.eye(3)))
        bias = rewriter.constant("body.0.bias.folded", torch.zeros(3))
        rewriter.replace(old, rewriter.call(aten.linear, old.args[0], weight, bias))
    result = rewriter.finish().check()
    assert weight.target == "body.0.weight_1"
    assert bias.target == "body.0.bias_folded"
    assert set(result.constants) == {"body.0.weight_1", str(bias.target)}
    assert result.constant("body.0.weight_1").requires_grad
    assert not result.constant(bias).requires_grad
    assert program.constants.keys() == {"body.0.weight", "body.0.bias"}


def test_dialect_calls_raise_the_level(program: Program) -> None:
    from graphopt.dialect.registry import all_ops

    rewriter = Rewriter(program, "test")
    old = find(rewriter, aten.hardswish.default)
    overload = next(op.overload for op in all_ops() if "hard_sigmoid" in op.name)
    with rewriter.rule("r", [old]), rewriter.before(old):
        rewriter.replace(old, rewriter.call(overload, old.args[0], 0.2, 0.5))
    assert rewriter.finish().check().level is Level.GRAPHOPT
    assert program.level is Level.TORCH


def test_user_assertions_survive() -> None:
    class Checked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.ops.aten._assert_async.msg((x > 0).all(), "x must be positive")
            return x + 1

    program = capture(Checked().eval(), (torch.ones(2),))
    result = Rewriter(program, "test").finish()
    assert len(list(result.calls())) == len(list(program.calls()))
