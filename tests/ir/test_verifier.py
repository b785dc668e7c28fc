"""Each invariant of a program, and the defect that breaks it."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphopt import PassError, Program, capture
from graphopt.ir.level import Level
from graphopt.ir.signature import DimRange
from graphopt.ir.verifier import check_program, check_same_signature, violations

aten = torch.ops.aten


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return self.second(hidden.reshape(hidden.shape[0], -1))


@pytest.fixture
def program() -> Program:
    return capture(Net().eval(), (torch.randn(3, 4),), dynamic_shapes=({0: "batch"},))


def node(program: Program, target: object) -> torch.fx.Node:
    return next(n for n in program.graph.nodes if n.target is target)


def use_before_definition(p: Program) -> None:
    node(p, aten.relu.default).prepend(node(p, aten.reshape.default))


def stale_view(p: Program) -> None:
    node(p, aten.reshape.default).update_arg(1, [2, -1, 3])


def stale_dtype(p: Program) -> None:
    n = node(p, aten.relu.default)
    with p.graph.inserting_before(n):
        cast = p.graph.call_function(aten.to.dtype, (n.args[0], torch.float64))
    cast.meta["val"] = n.meta["val"]
    n.update_arg(0, cast)


def no_value(p: Program) -> None:
    del node(p, aten.relu.default).meta["val"]


def missing_weight(p: Program) -> None:
    next(iter(p.graph.find_nodes(op="get_attr"))).target = "first.lost"


def weight_that_is_no_tensor(p: Program) -> None:
    p.graph_module.first.lost = "a string"  # type: ignore[union-attr, assignment]
    next(iter(p.graph.find_nodes(op="get_attr"))).target = "first.lost"


def unknown_operator(p: Program) -> None:
    node(p, aten.relu.default).target = torch.relu


def dialect_at_torch_level(p: Program) -> None:
    import graphopt.dialect.registry as registry

    node(p, aten.relu.default).target = registry.all_ops()[0].overload


def missing_operand(p: Program) -> None:
    node(p, aten.linear.default).args = ()


def mutation(p: Program) -> None:
    node(p, aten.relu.default).target = aten.relu_.default


def method_call(p: Program) -> None:
    n = node(p, aten.relu.default)
    n.op, n.target = "call_method", "relu"


def wrong_output_shape(p: Program) -> None:
    p.graph.output_node().args = ((node(p, aten.relu.default),),)


def wrong_output_count(p: Program) -> None:
    output = p.output_nodes[0]
    p.graph.output_node().args = ((output, output),)


BREAKS: list[tuple[Callable[[Program], None], str]] = [
    (use_before_definition, "graph"),
    (method_call, "graph"),
    (missing_weight, "graph"),
    (weight_that_is_no_tensor, "constants"),
    (unknown_operator, "level"),
    (dialect_at_torch_level, "level"),
    (mutation, "purity"),
    (missing_operand, "operands"),
    (stale_view, "values"),
    (stale_dtype, "values"),
    (no_value, "values"),
    (wrong_output_shape, "signature"),
    (wrong_output_count, "signature"),
]


def test_a_captured_program_holds(program: Program) -> None:
    assert list(violations(program)) == []


@pytest.mark.parametrize(("defect", "invariant"), BREAKS, ids=[b.__name__ for b, _ in BREAKS])
def test_each_defect_is_found(program: Program, defect: Callable[[Program], None], invariant: str) -> None:
    defect(program)
    assert invariant in {name for name, _, _ in violations(program)}
    with pytest.raises(PassError) as caught:
        check_program(program)
    assert caught.value.code == "GO-4001"


def test_the_error_names_the_users_layer(program: Program) -> None:
    node(program, aten.linear.default).args = ()
    with pytest.raises(PassError) as caught:
        check_program(program)
    assert caught.value.layer == "first"
    assert caught.value.node == "linear"


def test_a_specialised_dimension_is_found(program: Program) -> None:
    size = node(program, aten.sym_size.int).meta["val"]
    assert size * 2 == 6  # a guard: from here on the batch is 3
    assert "symbols" in {name for name, _, _ in violations(program)}


def test_levels_nest() -> None:
    assert Level.TORCH.allows(operator.getitem)
    assert Level.GRAPHOPT.allows(aten.linear.default)
    assert not Level.CORE.allows(aten.linear.default)
    assert not Level.TORCH.allows(torch.relu)


def test_changed_signatures_are_told_apart(program: Program) -> None:
    from dataclasses import replace

    old = program.signature
    check_same_signature(old, old)
    for changed in (
        replace(old, inputs=()),
        replace(old, outputs=(replace(old.outputs[0], dtype=torch.float64),)),
        replace(old, dims={"batch": DimRange(2, 4)}),
    ):
        with pytest.raises(PassError, match="signature"):
            check_same_signature(old, changed)
