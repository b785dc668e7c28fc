"""Exported files and compiled code are compared with the program, and a wrong operator is named."""

from __future__ import annotations

import pytest

from graphopt.errors import UsageError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref
from graphopt.fuzz.oracles import Subject, backend_oracles
from graphopt.fuzz.oracles.compiled import Compiled, packed, single_calls
from graphopt.fuzz.selfcheck import all_variants
from graphopt.fuzz.selfcheck.hunt import problems

X = Leaf("x", (2, 3, 5, 5))
CONV = Graph(
    (X, Leaf("w", (4, 3, 3, 3), role="weight"), Leaf("b", (4,), role="weight")),
    (
        Call("r", "aten.relu.default", (Ref("x"),)),
        Call("c", "aten.conv2d.default", (Ref("r"), Ref("w"), Ref("b"), (1, 1), (1, 1))),
        Call("h", "aten.hardtanh.default", (Ref("c"), -0.5, 0.5)),
        Call("p", "aten.split.Tensor", (Ref("h"), 2, 1)),
        Call("s", "operator.getitem", (Ref("p"), 1)),
        Call("m", "aten.softmax.int", (Ref("s"), 1)),
    ),
    ("m", "c"),
)
CASE = FuzzCase(CONV, ("cleanup",), 2)


def test_healthy_code_has_no_problem() -> None:
    for oracle in backend_oracles(["ort", "cpu"]):
        subject = Subject(CASE)
        assert list(oracle.check(subject)) == [], oracle.name


@pytest.mark.parametrize(
    ("variant", "signature"),
    [
        ("exported-without-bias", "export:onnx-file:value:aten.conv2d.default"),
        ("bounds-of-relu6", "export:onnx-file:value:aten.hardtanh.default"),
    ],
)
def test_a_wrong_translation_is_found(variant: str, signature: str) -> None:
    oracles = tuple(backend_oracles(["ort"])[:1])
    with all_variants()[variant].planted():
        assert [str(p.signature) for p in problems(CASE, oracles)] == [signature]


def test_a_wrong_converter_is_found_among_several_programs() -> None:
    healthy = FuzzCase(Graph((X,), (Call("y", "aten.tanh.default", (Ref("x"),)),), ("y",)))
    oracle = Compiled()
    with all_variants()["softmax-along-another-axis"].planted():
        found = [(i, str(p.signature)) for i, p in oracle.check_all([Subject(healthy), Subject(CASE)])]
    assert found == [(1, "codegen:compiled-cpu:value:aten.softmax.int")]


def test_each_call_alone() -> None:
    subject = Subject(CASE)
    graphs = list(single_calls(subject.program, subject.inputs))
    assert [g.calls[0].operator.split(".")[1] for g in graphs] == [
        "relu",
        "conv2d",
        "hardtanh",
        "split",
        "softmax",
    ]
    assert all(len(g.outputs) == 1 for g in graphs)


def test_programs_beside_each_other_compute_what_each_does() -> None:
    subject = Subject(CASE)
    both = packed([subject.program, subject.program], [subject.inputs, subject.inputs])
    both.check()
    outputs = both(*subject.inputs, *subject.inputs)
    alone = subject.program(*subject.inputs)
    assert len(outputs) == 2 * len(alone)
    assert all(bool((a == b).all()) for a, b in zip(outputs, [*alone, *alone], strict=True))


def test_an_unknown_backend() -> None:
    with pytest.raises(UsageError) as error:
        backend_oracles(["abacus"])
    assert error.value.code == "GO-2003"
