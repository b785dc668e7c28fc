"""Graphs as data: to a program and back, to JSON and back."""

from __future__ import annotations

import json

import pytest
import torch

from graphopt.errors import InputError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import normalised
from graphopt.fuzz.graphs import (
    Call,
    Graph,
    Leaf,
    Ref,
    TorchConstant,
    build_program,
    draw_inputs,
    draw_leaf,
    draw_weights,
    graph_of,
)
from graphopt.fuzz.templates import all_templates

X = Leaf("x", (2, 3))
RELU = Call("y", "aten.relu.default", (Ref("x"),))
TEMPLATES = [case for _, t in sorted(all_templates().items()) for case in (t.positive[0], t.near_misses[0])]


def through_json(graph: Graph) -> Graph:
    return Graph.from_dict(json.loads(json.dumps(graph.to_dict())))


@pytest.mark.parametrize("case", TEMPLATES[::12], ids=lambda c: c.words[:40])
def test_a_program_survives_the_way_to_data_and_back(case: object) -> None:
    program = case.program()  # type: ignore[attr-defined]
    graph = graph_of(program)
    again = build_program(through_json(graph))
    again.check()
    inputs = draw_inputs(graph)
    for ours, theirs in zip(again.graph_module(*inputs), program.graph_module(*inputs), strict=True):
        assert torch.equal(ours, theirs) or ours.isnan().any()
    assert through_json(graph) == graph


def test_a_graph_of_fixed_sizes_and_odd_layouts() -> None:
    leaves = (
        Leaf("x", (2, 3, 4), values="integers", layout="transposed"),
        Leaf("z", (4,), values="integers", layout="strided"),
        Leaf("w", (4, 4), role="weight", values="integers"),  # sums without rounding, in any order
        Leaf("c", (2,), role="constant", given=(float("inf"), -1.5)),
    )
    calls = (
        Call("a", "aten.linear.default", (Ref("x"), Ref("w"), Ref("z"))),
        Call("b", "aten.split.Tensor", (Ref("a"), 2, -1)),
        Call("d", "operator.getitem", (Ref("b"), 1)),
        Call("e", "aten.add.Tensor", (Ref("d"), Ref("c")), (("alpha", 2),)),
        Call("f", "aten.to.dtype", (Ref("e"), TorchConstant("float16"))),
    )
    graph = through_json(Graph(leaves, calls, ("f", "a", "f")))
    program = build_program(graph, seed=3)
    program.check()
    x, z = draw_inputs(graph, seed=3)
    assert not x.is_contiguous() and not z.is_contiguous()
    weights = draw_weights(graph, seed=3)
    with torch.no_grad():
        a = torch.nn.functional.linear(x, weights["w"], z)
        f, same, _ = program.graph_module(x, z)
    assert torch.equal(same, a)
    assert torch.equal(f, (a[..., 2:] + 2 * weights["c"]).half())
    assert [n.name for n in program.output_nodes] == ["f", "a", "f"]
    assert isinstance(program.constants["w"], torch.nn.Parameter)


def test_leaves_are_drawn_independently_of_one_another() -> None:
    leaf = Leaf("x", (5,))
    assert torch.equal(draw_leaf(leaf, (5,), 1), draw_leaf(leaf, (5,), 1))
    assert not torch.equal(draw_leaf(leaf, (5,), 1), draw_leaf(leaf, (5,), 2))
    assert not torch.equal(draw_leaf(leaf, (5,), 1), draw_leaf(Leaf("y", (5,)), (5,), 1))


@pytest.mark.parametrize(
    ("leaves", "calls", "outputs", "words"),
    [
        ((X,), (Call("y", "aten.relu.default", (Ref("q"),)),), ("y",), "reads q"),
        ((X, X), (), ("x",), "two values"),
        ((X,), (RELU,), ("z",), "returns z"),
        ((X,), (RELU,), (), "returns something"),
        ((Leaf("x", ("batch", 3)),), (RELU,), ("y",), "no size"),
    ],
)
def test_what_is_no_graph_is_refused(leaves: object, calls: object, outputs: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Graph(leaves, calls, outputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [{}, {"leaves": 3}, {"leaves": [], "calls": [{"name": 1}], "outputs": []}])
def test_malformed_data_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="malformed"):
        Graph.from_dict(data)


def test_what_no_operator_takes_is_an_input_error() -> None:
    with pytest.raises(ValueError, match="no operator"):
        build_program(Graph((X,), (Call("y", "aten.nothing.default", (Ref("x"),)),), ("y",)))
    with pytest.raises(InputError, match="rejects its operands"):
        build_program(Graph((X,), (Call("y", "aten.mm.default", (Ref("x"), Ref("x"))),), ("y",)))


def test_dead_code_and_names() -> None:
    graph = Graph(
        (X, Leaf("w", (3,), role="weight")),
        (RELU, Call("dead", "aten.mul.Tensor", (Ref("y"), Ref("w")))),
        ("y",),
    )
    live = graph.without_dead_code()
    assert live.calls == (RELU,) and live.leaves == (X,)
    renamed = graph.renamed({"x": "input", "y": "result"})
    assert renamed.outputs == ("result",) and renamed.calls[0].uses == ("input",)
    assert renamed.digest() != graph.digest()
    assert graph.users() == {"x": ["y"], "w": ["dead"], "y": ["dead"], "dead": []}


def test_a_case_survives_json() -> None:
    case = FuzzCase(Graph((X,), (RELU,), ("y",)), ("cleanup",), 7, "template", "0/7", "relu", "fires")
    assert FuzzCase.from_dict(json.loads(json.dumps(case.to_dict()))) == case
    with pytest.raises(ValueError, match="malformed"):
        FuzzCase.from_dict({"graph": case.graph.to_dict(), "colour": 1})
    with pytest.raises(ValueError, match="has to fire"):
        FuzzCase(case.graph, rule="relu")


def test_messages_are_normalised() -> None:
    one = normalised("Cannot find conv2d_3 at 0x7f12 in /tmp/a/b.py: 3.5 != 4\nmore")
    assert one == normalised("Cannot find conv2d_12 at 0x9 in /home/c.py: 1e-3 != -2")
    assert "conv2d" in one
