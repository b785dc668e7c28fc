"""Constant folding, common subexpressions and dead code."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.passes.cleanup.common_subexpressions import CommonSubexpressions
from graphopt.passes.cleanup.constant_folding import ConstantFolding
from graphopt.passes.cleanup.dead_code import DeadCode
from graphopt.passmanager.base import Pass
from graphopt.passmanager.manager import PassManager

aten = torch.ops.aten


class Model(torch.nn.Module):
    def __init__(self, function: Callable[..., Any], weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        for name, tensor in weights.items():
            if isinstance(tensor, torch.nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def capture(
    function: Callable[..., Any], weights: dict[str, torch.Tensor] | None = None, *, dynamic: bool = False
) -> Program:
    shapes = ({0: "rows"},) if dynamic else None
    return capture_torch(Model(function, weights or {}).eval(), (torch.randn(3, 4),), dynamic_shapes=shapes)


def run(item: Pass, program: Program) -> Program:
    """Under the pass manager: invariants, contract and gradients are checked."""
    return PassManager([item], reproducer_dir=False).run(program).program


def operators(program: Program) -> list[str]:
    return [str(n.target).split(".")[-2] if "." in str(n.target) else str(n.target) for n in program.calls()]


# -- constant folding ----------------------------------------------------------------------------


def test_a_constant_used_directly_and_in_another_constant() -> None:
    def function(w: Model, x: torch.Tensor) -> torch.Tensor:
        shifted = w.a + 1.0
        return (x * shifted) + (shifted * w.a).sqrt()

    folded = run(ConstantFolding(), capture(function, {"a": torch.rand(4) + 1}))
    assert operators(folded) == ["mul", "add"]


def test_a_computed_weight_becomes_a_constant() -> None:
    program = capture(lambda w, x: x @ (w.a.t() * 2), {"a": torch.randn(5, 4)})
    folded = run(ConstantFolding(), program)
    assert operators(folded) == ["matmul"]
    assert list(folded.constants) == ["a_folded"]
    assert torch.equal(folded.constants["a_folded"], program.constants["a"].t() * 2)


def test_random_numbers_are_not_folded() -> None:
    program = capture(lambda w, x: x + torch.rand(3, 4) + torch.randn_like(w.a), {"a": torch.randn(3, 4)})
    folded = ConstantFolding().apply(program, _context())
    assert operators(folded) == operators(program)


def test_results_whose_shape_depends_on_data_are_not_folded() -> None:
    program = capture(lambda w, x: x.sum() + torch.nonzero(w.a).sum(), {"a": torch.tensor([0.0, 1.0, 2.0])})
    assert "nonzero" in operators(run(ConstantFolding(), program))


def test_a_large_result_of_little_data_stays_a_call() -> None:
    program = capture(lambda w, x: x.sum() + torch.zeros(300, 300).cumsum(0).sum(), {})
    assert operators(run(ConstantFolding(), program))[0] == "sum"  # it shrinks again: worth it
    program = capture(lambda w, x: torch.ones(300, 300) * x.sum(), {})
    assert "ones" in operators(run(ConstantFolding(), program))
    assert "ones" not in operators(run(ConstantFolding(limit=10**6), program))


def test_sizes_that_are_known_become_numbers() -> None:
    program = capture(lambda w, x: x.reshape(x.shape[0], x.shape[1] // 2, -1), dynamic=True)
    text = run(ConstantFolding(), program).text()
    assert "sym_size(%inputs_0, 0)" in text and "sym_size(%inputs_0, 1)" not in text
    assert "[%0, 2, -1]" in text


def test_symbolic_sizes_are_not_folded() -> None:
    program = capture(lambda w, x: x + torch.arange(x.shape[0]).unsqueeze(1), dynamic=True)
    assert "arange" in operators(run(ConstantFolding(), program))


def test_trainable_parameters_are_folded_only_on_request() -> None:
    program = capture(lambda w, x: x * w.a.exp(), {"a": torch.nn.Parameter(torch.randn(4))})
    kept = run(ConstantFolding(), program)
    assert "exp" in operators(kept) and kept.constants["a"].requires_grad
    folded = run(ConstantFolding(parameters=True), program)
    assert "exp" not in operators(folded)
    assert not any(t.requires_grad for t in folded.constants.values())


def test_folding_says_whether_training_survives() -> None:
    assert ConstantFolding().preserves_training
    assert not ConstantFolding(parameters=True).preserves_training


def test_a_part_of_a_large_constant_does_not_keep_all_of_it() -> None:
    program = capture(lambda w, x: x + w.a[:3, :4], {"a": torch.randn(100, 100)})
    (constant,) = run(ConstantFolding(), program).constants.values()
    assert constant.untyped_storage().nbytes() == constant.nbytes


# -- common subexpressions -----------------------------------------------------------------------


def test_equal_calls_become_one_whether_defaults_are_written_or_not() -> None:
    program = capture(lambda w, x: torch.softmax(x, 1) + torch.softmax(x, dim=1, dtype=None))
    assert operators(run(CommonSubexpressions(), program)).count("softmax") == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: torch.rand_like(x) + torch.rand_like(x),
        lambda w, x: (x + 1) * (x + 1.5),
        lambda w, x: x.sum(0).sum() + x.sum(1).sum(),
        lambda w, x: (x * 0.0) + (x * -0.0),
    ],
    ids=["random", "other numbers", "other axes", "signed zero"],
)
def test_different_calls_stay_two(function: Callable[..., Any]) -> None:
    program = capture(function)
    after = CommonSubexpressions().apply(program, _context())
    assert operators(after) == operators(program)


def test_integer_and_float_operands_are_told_apart() -> None:
    program = capture(lambda w, x: ((y := x.long()) + 1, y + 1.0))
    assert operators(run(CommonSubexpressions(), program)).count("add") == 2


def test_equal_constants_become_one() -> None:
    weights = {"a": torch.ones(4), "b": torch.ones(4), "c": torch.zeros(4)}
    program = capture(lambda w, x: (x + w.a) * (x - w.b) + w.c, weights)
    assert list(run(CommonSubexpressions(), program).constants) == ["a", "c"]
    assert list(run(CommonSubexpressions(equal_constants=False), program).constants) == ["a", "b", "c"]


def test_equal_parameters_are_not_tied() -> None:
    weights = {"a": torch.nn.Parameter(torch.ones(4)), "b": torch.nn.Parameter(torch.ones(4))}
    program = capture(lambda w, x: (x + w.a) * (x - w.b), weights)
    assert list(run(CommonSubexpressions(), program).constants) == ["a", "b"]


def test_sizes_of_equal_expression_become_one() -> None:
    program = capture(lambda w, x: torch.relu(x.reshape(-1)), dynamic=True)
    rewriter = Rewriter(program, "test")
    (x,), (relu,) = rewriter.program.input_nodes, rewriter.program.output_nodes
    with rewriter.before(rewriter.graph.output_node()):
        computed = rewriter.call(operator.mul, rewriter.call(aten.sym_size.int, x, 0), 4)
        read = rewriter.call(aten.sym_size.int, relu.args[0], 0)
        both = rewriter.call(
            aten.add, rewriter.call(aten.zeros, [computed]), rewriter.call(aten.ones, [read])
        )
        rewriter.replace(relu, rewriter.call(aten.add, relu, both))
    before = rewriter.finish()
    after = run(CommonSubexpressions(), before)
    sizes = [n for n in after.calls() if isinstance(n.meta["val"], torch.SymInt) and len(n.users) == 2]
    assert len(sizes) == 1 and operators(after).count("sym_size") == 1


# -- dead code -----------------------------------------------------------------------------------


def test_unused_calls_and_their_weights_go() -> None:
    program = capture(lambda w, x: (x @ w.a, x + 1)[1], {"a": torch.randn(4, 4)})
    after = run(DeadCode(), program)
    assert operators(after) == ["add"] and not after.constants


def test_a_users_assertion_stays_and_one_that_holds_goes() -> None:
    def function(w: Any, x: torch.Tensor) -> torch.Tensor:
        aten._assert_async.msg((x > -100).all(), "x is in range")
        aten._assert_async.msg(w.yes, "always")
        return x * 2

    program = capture(function, {"yes": torch.tensor(True)})
    assert operators(program).count("_assert_async") == 2
    after = run(DeadCode(), program)
    assert operators(after).count("_assert_async") == 1
    assert "yes" not in after.constants


def _context() -> Any:
    from graphopt.passmanager.base import PassContext

    return PassContext()
