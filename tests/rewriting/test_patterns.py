"""Patterns, one property a test: what matches, what does not, and the reason given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from graphopt import PassError, Program, Rewriter, RewriteRule, capture
from graphopt.rewriting.driver import NearMatch, apply_rules, explain
from graphopt.rewriting.match import Match
from graphopt.rewriting.statistics import RuleStatistics

X = torch.linspace(-4, 4, 6).reshape(2, 3)


def program_of(function: Callable[..., Any], *inputs: torch.Tensor) -> Program:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("three", torch.tensor(3.0))
            self.register_buffer("row", torch.tensor([1.0, 2.0, 3.0]))

        def forward(self, *args: torch.Tensor) -> Any:
            return function(self, *args)

    return capture(Module().eval(), inputs or (X,))


def rewrite(program: Program, *rules: RewriteRule) -> tuple[Program, list[RuleStatistics]]:
    rewriter = Rewriter(program, "test")
    statistics = apply_rules(rewriter, rules)
    return rewriter.finish().check(), statistics


def operators(program: Program) -> list[str]:
    return [n.target.overloadpacket.__name__ for n in program.operator_nodes()]


class HardSwish(RewriteRule):
    """x * clamp(x + 3, 0, 6) / 6 -> hardswish(x)"""

    def pattern(self, op, x):  # type: ignore[no-untyped-def]
        return op.div(op.mul(x, op.clamp(op.add(x, 3), 0, 6)), 6)

    def check(self, match: Match):  # type: ignore[no-untyped-def]
        return match.ok() if match.x.dtype.is_floating_point else match.fail("x is not floating point")

    def rewrite(self, op, x):  # type: ignore[no-untyped-def]
        return op.hardswish(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x * (x + 3).clamp(0, 6) / 6,
        lambda m, x: (x + 3).clamp(0, 6) * x / 6,
        lambda m, x: x * (3 + x).clamp(0.0, 6.0) / 6.0,
        lambda m, x: x * (m.three + x).clamp(0, 6) / 6,
    ],
    ids=["plain", "swapped", "floats", "constant tensor"],
)
def test_forms_that_match(function: Callable[..., Any]) -> None:
    program = program_of(function)
    result, (statistics,) = rewrite(program, HardSwish())
    assert operators(result) == ["hardswish"]
    assert statistics.matched == 1
    assert torch.allclose(result(X)[0], program(X)[0])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: x * (x + 2).clamp(0, 6) / 6, "expected 3, found 2"),
        (lambda m, x: x * (x + 3).clamp(0, 5) / 6, "expected 6, found 5"),
        (lambda m, x: x * (x + 3).clamp(0) / 6, "expected 6, found None"),
        (lambda m, x: x * torch.add(x, 3, alpha=2).clamp(0, 6) / 6, "alpha of aten.add.Tensor is 2"),
        (lambda m, x: x.neg() * (x + 3).clamp(0, 6) / 6, "x is two different values"),
        (lambda m, x: torch.div(x * (x + 3).clamp(0, 6), 6, rounding_mode="floor"), "rounding_mode"),
        (lambda m, x: x * (x + 3).relu() / 6, "expected clamp, found relu"),
        (lambda m, x: x * (x + m.row).clamp(0, 6) / 6, "expected 3"),
    ],
)
def test_near_misses_say_why(function: Callable[..., Any], reason: str) -> None:
    program = program_of(function)
    (near,) = [p for p in explain(program, [HardSwish()]) if isinstance(p, NearMatch)]
    assert reason in near.reason
    result, (statistics,) = rewrite(program, HardSwish())
    assert result.structural_hash() == program.structural_hash()
    assert statistics.matched == 0 and sum(statistics.rejected.values()) == statistics.tried == 1


def test_check_refuses_with_its_reason() -> None:
    program = program_of(lambda m, x: x * (x + 3).clamp(0, 6) / 6, torch.arange(6))
    _, (statistics,) = rewrite(program, HardSwish())
    assert dict(statistics.rejected) == {"x is not floating point": 1}


def test_values_that_are_needed_elsewhere_guard_the_match() -> None:
    def shared(m: nn.Module, x: torch.Tensor) -> Any:
        gate = (x + 3).clamp(0, 6)
        return x * gate / 6 + gate.sqrt()

    def output(m: nn.Module, x: torch.Tensor) -> Any:
        gate = (x + 3).clamp(0, 6)
        return x * gate / 6, gate

    _, (statistics,) = rewrite(program_of(shared), HardSwish())
    assert dict(statistics.rejected) == {"clamp is also used by sqrt": 1}
    _, (statistics,) = rewrite(program_of(output), HardSwish())
    assert dict(statistics.rejected) == {"clamp is an output of the graph": 1}


def test_shared_values_can_be_allowed() -> None:
    class Shared(HardSwish):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            gate = op.shared(op.clamp(op.shared(op.add(x, 3)), 0, 6))
            return op.div(op.mul(x, gate), 6)

    def function(m: nn.Module, x: torch.Tensor) -> Any:
        gate = (x + 3).clamp(0, 6)
        return x * gate / 6, gate

    result, _ = rewrite(program_of(function), Shared())
    assert operators(result) == ["add", "clamp", "hardswish"]


class MergeLinears(RewriteRule):
    """two linears of one input -> one linear and two slices"""

    def pattern(self, op, x, w1, b1, w2, b2):  # type: ignore[no-untyped-def]
        return op.linear(x, w1, b1), op.linear(x, w2, b2)

    def rewrite(self, op, x, w1, b1, w2, b2):  # type: ignore[no-untyped-def]
        rows = w1.shape[0]
        both = op.linear(
            x,
            op.constant("merged.weight", torch.cat([w1.tensor, w2.tensor])),
            op.constant("merged.bias", torch.cat([b1.tensor, b2.tensor])),
        )
        return op.slice(both, -1, 0, rows), op.slice(both, -1, rows, 2**63 - 1)


class TwoLinears(nn.Module):
    def __init__(self, chained: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)
        self.chained = chained

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.chained:  # b is computed from a value that needs a: they cannot be one
            first = self.a(x)
            return self.b(x) * first.sum() if self.chained is None else self.b(x + first.sum())
        return self.a(x) - self.b(x)


def test_several_results() -> None:
    program = capture(TwoLinears(False).eval(), (X,))
    result, (statistics,) = rewrite(program, MergeLinears())
    assert operators(result) == ["linear", "slice", "slice", "sub"]
    assert statistics.matched == 1
    assert torch.allclose(result(X)[0], program(X)[0], atol=1e-6)


def test_several_results_need_one_place() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.a(x).relu()
            return first + self.b(x)

    program = capture(Between().eval(), (X,))
    _, (statistics,) = rewrite(program, MergeLinears())
    assert "the results are used before all operands are known" in statistics.rejected


def test_variadic_operands() -> None:
    class DropEmpty(RewriteRule):
        def pattern(self, op, first, others, dim):  # type: ignore[no-untyped-def]
            return op.cat([first, *op.rest("others")], dim)

        def check(self, match: Match):  # type: ignore[no-untyped-def]
            empty = [v for v in match.others if v.shape.numel() == 0]
            return match.ok() if empty else match.fail("nothing is empty")

        def rewrite(self, op, first, others, dim):  # type: ignore[no-untyped-def]
            return op.cat([first, *(v for v in others if v.shape.numel())], dim)

    program = program_of(lambda m, x: torch.cat([x, x[:0], x * 2, x[:, :0].mT.reshape(0, 3)]))
    result, (statistics,) = rewrite(program, DropEmpty())
    (cat,) = [n for n in result.operator_nodes() if "cat" in str(n.target)]
    assert len(cat.args[0]) == 2
    assert statistics.rejected == {"nothing is empty": 1}


def test_every_element_can_be_constrained() -> None:
    class AllRelu(RewriteRule):
        def pattern(self, op, xs):  # type: ignore[no-untyped-def]
            return op.cat([*op.rest("xs", op.relu(op.any))])

        def rewrite(self, op, xs):  # type: ignore[no-untyped-def]
            return op.relu(op.cat([op_input(v) for v in xs]))

    def op_input(value: Any) -> Any:
        return type(value)(value.node.args[0], value._program)

    good = program_of(lambda m, x: torch.cat([x.relu(), (x + 1).relu()]))
    bad = program_of(lambda m, x: torch.cat([x.relu(), (x + 1).sigmoid()]))
    assert operators(rewrite(good, AllRelu())[0]) == ["add", "cat", "relu"]
    assert rewrite(bad, AllRelu())[1][0].matched == 0


def test_alternatives_and_wildcards() -> None:
    class Gate(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.mul(x, op.either(op.sigmoid(x), op.div(1, op.add(op.exp(op.neg(x)), 1))))

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.silu(x)

    result, _ = rewrite(program_of(lambda m, x: x * x.sigmoid()), Gate())
    assert operators(result) == ["silu"]

    class AnyDim(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.softmax(op.softmax(x, ...), op.any, ...)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.softmax(x, -1)

    result, _ = rewrite(program_of(lambda m, x: x.softmax(0).softmax(1)), AnyDim())
    assert operators(result) == ["softmax"]


def test_predicates_and_names() -> None:
    class Scale(RewriteRule):
        def pattern(self, op, x, s):  # type: ignore[no-untyped-def]
            return op.mul(op.named("inner", op.neg(x)), op.where(s, lambda v: v == 2.0, "two"))

        def rewrite(self, op, x, inner):  # type: ignore[no-untyped-def]
            assert inner.shape == x.shape
            return op.mul(x, -2.0)

    assert rewrite(program_of(lambda m, x: -x * 2.0), Scale())[1][0].matched == 1
    _, (statistics,) = rewrite(program_of(lambda m, x: -x * 3.0), Scale())
    assert any("3.0 is not two" in reason for reason in statistics.rejected)


def test_float32_constants_match_their_exact_value() -> None:
    class Half(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.mul(x, 2**-0.5)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.div(x, 2**0.5)

    close = float(torch.tensor(2**-0.5, dtype=torch.float32))
    assert rewrite(program_of(lambda m, x: x * close), Half())[1][0].matched == 1
    assert rewrite(program_of(lambda m, x: x * 0.7071), Half())[1][0].matched == 0


def test_results_of_multi_output_operators() -> None:
    class TopOne(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.item(op.max(x, 1, True), 0)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.amax(x, [1], True)

    result, _ = rewrite(program_of(lambda m, x: x.max(1, keepdim=True).values), TopOne())
    assert operators(result) == ["amax"]


def test_rules_that_undo_each_other_are_stopped() -> None:
    class There(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.relu(x)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.clamp_min(x, 0)

    class Back(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.clamp_min(x, 0)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return op.relu(x)

    with pytest.raises(PassError, match="undo each other"):
        rewrite(program_of(lambda m, x: x.relu()), There(), Back())


@pytest.mark.parametrize("value", [3, None, "x"])
def test_a_rule_must_return_a_tensor(value: Any) -> None:
    class Wrong(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.relu(x)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return value

    with pytest.raises(PassError, match="not a tensor"):
        rewrite(program_of(lambda m, x: x.relu()), Wrong())


def test_a_rule_that_raises_is_named_with_the_layer() -> None:
    class Broken(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.relu(x)

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError("oops")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x)

    with pytest.raises(PassError, match="'broken' failed: ZeroDivisionError: oops") as caught:
        rewrite(capture(Net().eval(), (X,)), Broken())
    assert caught.value.layer == "act"


def test_unknown_operators_are_refused_when_the_pattern_is_built() -> None:
    class Typo(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.hardswich(x)

    with pytest.raises(AttributeError, match="hardswich"):
        rewrite(program_of(lambda m, x: x.relu()), Typo())


def test_rewrites_cascade_to_the_fixed_point() -> None:
    class DoubleNegation(RewriteRule):
        def pattern(self, op, x):  # type: ignore[no-untyped-def]
            return op.neg(op.neg(x))

        def rewrite(self, op, x):  # type: ignore[no-untyped-def]
            return x

    def function(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        for _ in range(9):
            x = -x
        return x

    result, (statistics,) = rewrite(program_of(function), DoubleNegation())
    assert operators(result) == ["neg"]
    assert statistics.matched == 4
