"""Hypothesis strategies: what they draw runs, and what they find shrinks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from graphopt.fuzz import strategies
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Call, Graph, build_module, build_program, draw_inputs

CI = settings(settings.get_profile("ci"), database=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(settings.get_profile("ci"), max_examples=25)


@FEW
@given(strategies.graphs(features=True, dtypes=("float32", "int64", "float16")))
def test_graphs_run_and_are_finite(graph: Graph) -> None:
    with torch.no_grad():
        outputs = build_module(graph)(*draw_inputs(graph))
    assert len(outputs) == len(graph.outputs)
    assert all(bool(y.isfinite().all()) for y in outputs if y.is_floating_point())


@settings(FEW, max_examples=12)
@given(strategies.cases(rules=("silu", "unit-factor", "identity-permute"), most=3))
def test_cases_are_programs(case: FuzzCase) -> None:
    build_program(case.graph, case.seed).check()
    assert (case.rule is None) == (case.origin == "written")


@FEW
@given(strategies.tensors(dtypes=("float32", "int64", "bool"), special=(-0.0, 3e38)))
def test_tensors(tensor: torch.Tensor) -> None:
    assert tensor.dtype in (torch.float32, torch.int64, torch.bool) and tensor.ndim <= 4


@given(st.data())
@settings(FEW, max_examples=5)
def test_tensors_of_a_shape(data: st.DataObject) -> None:
    tensor = data.draw(strategies.tensors(shape=(2, 0, 3), dtypes=("float64",)))
    assert tensor.shape == (2, 0, 3) and tensor.dtype == torch.float64


def feeds(
    producer: str, consumer: str, condition: Callable[[Call], bool] = lambda call: True
) -> Callable[[Graph], bool]:
    """A bug that shows where one operator reads the result of another."""

    def has_bug(graph: Graph) -> bool:
        calls = {call.name: call for call in graph.calls}
        return any(
            call.operator.startswith(consumer)
            and any(
                u in calls and calls[u].operator.startswith(producer) and condition(calls[u])
                for u in call.uses
            )
            for call in graph.calls
        )

    return has_bug


def stride_two(call: Call) -> bool:
    return len(call.arguments) > 3 and isinstance(call.arguments[3], tuple) and 2 in call.arguments[3]


ROWS = "aten.relu aten.add aten.reshape aten.cat aten.softmax".split()
IMAGES = "aten.relu aten.conv2d aten.max_pool2d".split()
STRIDED = feeds("aten.conv2d", "aten.max_pool2d", stride_two)


@pytest.mark.parametrize(
    ("strategy", "bug"),
    [
        (strategies.graphs(operators=ROWS, most=5), feeds("aten.cat", "aten.softmax")),
        (strategies.graphs(operators=IMAGES, most=5, ranks=(4,)), STRIDED),
    ],
    ids=["cat feeds softmax", "strided convolution feeds max_pool"],
)
def test_a_bug_of_two_operators_shrinks(
    strategy: st.SearchStrategy[Graph], bug: Callable[[Graph], bool]
) -> None:
    smallest = find(strategy, bug, settings=CI)
    assert len(smallest.calls) <= 4
    assert all(leaf.shape.count(1) >= len(leaf.shape) - 2 for leaf in smallest.leaves)


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(ValueError, match="aten.nothing"):
        find(strategies.graphs(operators=("aten.nothing",)), lambda graph: True, settings=CI)
