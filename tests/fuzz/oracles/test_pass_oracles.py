"""Each oracle of passes finds what it is for, and names the pass and the rule."""

from __future__ import annotations

from typing import Any

import pytest

import tests.passmanager.planted  # noqa: F401  registers passes with one defect each
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Problem
from graphopt.fuzz.generation import Options, generate
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref
from graphopt.fuzz.oracles import Subject, pass_oracles
from graphopt.fuzz.oracles.variants import renamed, reordered, with_dead_code
from graphopt.fuzz.selfcheck import all_variants

MLP = Graph(
    (
        Leaf("x", (3, 4)),
        Leaf("v", (5, 4), role="weight"),
        Leaf("b", (5,), role="weight"),
        Leaf("w", (2, 5), role="weight"),
    ),
    (
        Call("a", "aten.linear.default", (Ref("x"), Ref("v"), Ref("b"))),
        Call("r", "aten.relu.default", (Ref("a"),)),
        Call("y", "aten.linear.default", (Ref("r"), Ref("w"))),
    ),
    ("y",),
)


def found(case: FuzzCase) -> list[Problem]:
    subject = Subject(case)
    return [p for o in pass_oracles() if o.applies(subject) for p in o.check(subject)]


@pytest.mark.parametrize(
    ("spec", "signature"),
    [
        ("test-double", "test-double:contract:value"),
        ("test-double{factor=1.00001}", "test-double:contract:value"),
        ("test-raises", "test-raises:invariants:exception"),
        ("test-returns-none", "test-returns-none:invariants:exception"),
        ("test-edits-input", "test-edits-input:invariants:exception"),
        ("test-renames-output", "test-renames-output:invariants:signature"),
        ("test-detaches", "test-detaches:gradients:lost"),
        ("test-breaks{invariant=values}", "test-breaks:invariants:values"),
        ("test-breaks{invariant=purity}", "test-breaks:invariants:"),
        ("test-lossy{factor=1.5}", "test-lossy:contract:budget"),
        ("test-bounded{bound=0.1}", "test-bounded:contract:value"),
    ],
)
def test_a_planted_defect_is_found(spec: str, signature: str) -> None:
    signatures = [str(p.signature) for p in found(FuzzCase(MLP, (spec,), 3))]
    assert any(s.startswith(signature) for s in signatures), signatures


@pytest.mark.parametrize(
    "passes",
    [
        ("test-relu-as-clamp",),
        ("test-nothing",),
        ("test-detaches-openly",),
        ("test-renames-output-openly",),
        ("test-lossy",),
        ("test-core-only",),  # does not take the program, and says so
        ("test-relu-as-clamp", "cleanup"),
    ],
)
def test_right_passes_have_no_problem(passes: tuple[str, ...]) -> None:
    kinds = {p.signature.oracle for p in found(FuzzCase(MLP, passes, 3))}
    # One of them adds a call each time, and is not asked for anything else.
    assert kinds == ({"fixpoint"} if passes[0] == "test-detaches-openly" else set())


def test_bounds_add_up() -> None:
    within = FuzzCase(MLP, ("test-bounded{bound=0.3}", "test-bounded{bound=0.3}"), 3)
    beyond = FuzzCase(MLP, ("test-bounded{bound=0.3}", "test-bounded{bound=0.1}"), 3)
    assert not [p for p in found(within) if p.signature.oracle == "contract"]
    assert [p for p in found(beyond) if p.signature.oracle == "contract"]


def test_generated_cases_have_no_problem() -> None:
    for index in range(12):
        case = generate(11, index, Options(dynamic=0.0))
        assert found(case) == [], case.label


def test_the_rule_at_fault_is_named() -> None:
    variant = all_variants()["clip-bounds-swapped"]
    clamps = Graph(
        (Leaf("x", (3, 4)),),
        (
            Call("a", "aten.clamp.default", (Ref("x"), -1.0, 1.0)),
            Call("b", "aten.clamp.default", (Ref("a"), -2.0, 0.5)),
        ),
        ("b",),
    )
    with variant.planted():
        (problem, *_) = found(FuzzCase(clamps, ("cleanup",), 1))
    assert str(problem.signature) == "canonical-scalars:contract:value:clamp-of-clamp"
    assert problem.facts["output"] == "output_0"
    assert found(FuzzCase(clamps, ("cleanup",), 1)) == []


@pytest.mark.parametrize("expects", ["fires", "refuses"])
def test_expectations_of_a_rule(expects: Any) -> None:
    graph = Graph((Leaf("x", (3,)),), (Call("y", "aten.add.Tensor", (Ref("x"), 0)),), ("y",))
    signatures = [str(p.signature) for p in found(FuzzCase(graph, rule="add-zero", expects=expects))]
    assert signatures == ([] if expects == "fires" else ["canonical-scalars:firing:overreach:add-zero"])
    silent = FuzzCase(MLP, rule="add-zero", expects=expects)
    assert len(found(silent)) == (expects == "fires")


@pytest.mark.parametrize("variant", [renamed, reordered, with_dead_code])
def test_variants_are_the_same_program(variant: Any) -> None:
    for index in range(6):
        case = generate(5, index, Options(dynamic=0.0))
        program = Subject(case).program
        other = variant(program, 7)
        other.check()
        assert other.structural_hash() == program.structural_hash()
        if variant is renamed:
            assert str(other) == str(program)  # values are numbered in it
        if variant is with_dead_code:
            assert len(other.graph.nodes) >= len(program.graph.nodes)
