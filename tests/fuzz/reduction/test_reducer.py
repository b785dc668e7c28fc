"""Findings in a network of 14 operators: reduced to the operators at fault, in few calls."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planted_rules import BUGS, NETWORK, Planted, SwapsNeighbours, WrongAxis, finding_of

import graphopt as go
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Finding, Problem, Signature
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref, TorchConstant
from graphopt.fuzz.oracles import Subject
from graphopt.fuzz.reduction import reduce


@pytest.mark.parametrize("rule", BUGS, ids=lambda rule: rule.__name__)
def test_planted_bugs_are_reduced_to_the_operators_at_fault(rule: type[go.RewriteRule]) -> None:
    finding = finding_of(rule)
    oracle = Planted(rule)
    reduced = reduce(finding, oracle)
    assert reduced.reproduced and reduced.calls <= 60 and reduced.calls == len(reduced.steps)
    assert len(reduced.case.graph.operators) == BUGS[rule]
    assert all(size <= 3 for leaf in reduced.case.graph.leaves for size in leaf.shape)  # type: ignore[operator]
    (problem,) = oracle.check(Subject(reduced.case))
    assert problem.signature == reduced.finding.signature == finding.signature
    assert reduced.original == finding.case and reduced.case.origin == "reduced"
    assert reduced.case.passes == ()
    assert reduce(finding, oracle).case == reduced.case


@pytest.mark.parametrize("budget", [1, 4, 9])
def test_the_budget_is_kept_and_what_was_reached_is_kept_too(budget: int) -> None:
    reduced = reduce(finding_of(SwapsNeighbours), Planted(SwapsNeighbours), budget=budget)
    assert reduced.calls == budget
    assert len(list(Planted(SwapsNeighbours).check(Subject(reduced.case)))) == 1
    assert len(reduced.case.graph.operators) <= {1: 14, 4: 7, 9: 2}[budget]


def test_what_does_not_come_back_is_left_alone() -> None:
    finding = finding_of(WrongAxis)
    other = Finding(finding.case, Problem(Signature("planted", "contract", "nan"), "flaky"))
    reduced = reduce(other, Planted(WrongAxis))
    assert not reduced.reproduced and reduced.case == finding.case and reduced.calls == 1


class _Counts:
    """An oracle of calls: a case of at least one call of each operator has the problem."""

    name = "counts"
    cost = "milliseconds"

    def __init__(self, *operators: str, passes: tuple[str, ...] = (), dynamic: bool = False) -> None:
        self.operators, self.passes, self.dynamic = operators, passes, dynamic
        self.signature = Signature("fuzzer", "counts", "value", "here")

    def applies(self, subject: Subject) -> bool:
        return bool(subject.program.operator_nodes())

    def check(self, subject: Subject):  # type: ignore[no-untyped-def]
        graph = subject.case.graph
        missing = set(self.operators) - set(graph.operators) or set(self.passes) - set(subject.case.passes)
        if not missing and (not self.dynamic or graph.dynamic_names()):
            yield Problem(self.signature, "all are there")


def _reduced(case: FuzzCase, oracle: _Counts) -> FuzzCase:
    return reduce(Finding(case, Problem(oracle.signature, "")), oracle).case


def test_operators_far_apart_stay_and_what_is_between_them_goes() -> None:
    case = _reduced(FuzzCase(NETWORK), _Counts("aten.hardtanh.default", "aten.tanh.default"))
    assert set(case.graph.operators) >= {"aten.hardtanh.default", "aten.tanh.default"}
    assert len(case.graph.operators) < 12  # shapes change in between: not all can go


def test_pipelines_lose_the_passes_that_do_not_matter() -> None:
    passes = ("dead-code", "cleanup", "fold-into-weights", "fuse-activations")
    case = _reduced(FuzzCase(NETWORK, passes=passes), _Counts("aten.tanh.default", passes=passes[2:3]))
    assert case.passes == passes[2:3]
    case = _reduced(
        FuzzCase(NETWORK, passes=passes), _Counts("aten.tanh.default", passes=(passes[0], passes[3]))
    )
    assert case.passes == (passes[0], passes[3])


def test_a_rules_template_is_not_taken_apart() -> None:
    """A rule fires on no graph without its pattern: that it does not fire must not be reduced to that."""

    class Refuses(_Counts):
        def check(self, subject: Subject):  # type: ignore[no-untyped-def]
            if subject.case.expects == "fires":
                yield Problem(self.signature, "does not fire")

    finding = FuzzCase(NETWORK, rule="fold-into-weights", expects="fires")
    case = _reduced(finding, Refuses())
    assert case.graph.calls == NETWORK.calls and case.expects == "fires"
    free = _reduced(finding, _Counts("aten.tanh.default"))
    assert free.expects is None and free.graph.operators == ("aten.tanh.default",)


HALVES = Graph(
    (
        Leaf("x", ("n", 6), "float16", layout="strided"),
        Leaf("i", (5,), "int64", low=0, high=3),
        Leaf("w", (4, 6), "float16", role="weight", given=tuple(k / 7 for k in range(24))),
    ),
    (
        Call("wide", "aten.to.dtype", (Ref("x"), TorchConstant("float64"))),
        Call("h", "aten.to.dtype", (Ref("wide"), TorchConstant("float16"))),
        Call("lin", "aten.linear.default", (Ref("h"), Ref("w"))),
        Call("parts", "aten.split.Tensor", (Ref("lin"), 2, 1)),
        Call("left", "operator.getitem", (Ref("parts"), 0)),
        Call("rows", "aten.index_select.default", (Ref("w"), 0, Ref("i"))),
        Call("t", "aten.tanh.default", (Ref("left"),)),
    ),
    ("t", "rows", "h"),
    (("n", 5),),
)


def test_dtypes_layouts_dynamic_axes_and_numbers_become_plain() -> None:
    case = _reduced(FuzzCase(HALVES), _Counts("aten.split.Tensor", "aten.tanh.default"))
    assert case.graph.operators == ("aten.split.Tensor", "aten.tanh.default")
    (x,) = case.graph.leaves
    assert (x.dtype, x.layout, x.values, x.given, case.graph.dynamic_names()) == (
        "float32", "contiguous", "integers", None, set(),
    )  # fmt: skip


def test_what_matters_stays() -> None:
    case = _reduced(FuzzCase(HALVES), _Counts("aten.linear.default", dynamic=True))
    assert case.graph.dynamic_names() == {"n"}
    case = _reduced(FuzzCase(HALVES), _Counts("aten.index_select.default"))
    index = next(leaf for leaf in case.graph.leaves if leaf.dtype == "int64")
    assert index.high <= 3  # indices are not drawn anew out of range


def test_large_values_that_are_cut_off_are_drawn_again() -> None:
    large = Graph(
        (Leaf("x", (70, 80)),),
        (
            Call("e", "aten.exp.default", (Ref("x"),)),
            Call("s", "aten.sqrt.default", (Ref("e"),)),
            Call("t", "aten.tanh.default", (Ref("s"),)),
        ),
        ("t",),
    )
    case = _reduced(replace(FuzzCase(large), seed=1), _Counts("aten.sqrt.default"))
    assert case.graph.operators == ("aten.sqrt.default",)
    assert case.graph.leaves[0].given is None
