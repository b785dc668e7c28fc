"""The pass manager believes no pass: every way to do harm is caught and names the pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphopt import (
    CompositePass,
    Exact,
    Lossy,
    Pass,
    PassError,
    PassManager,
    Program,
    VerificationError,
)
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref, build_program
from tests.passmanager import planted


def test_a_right_pass(program: Program, run: Any) -> None:
    text = str(program)
    result = run("test-relu-as-clamp")
    assert result.original is program and str(program) == text
    assert "clamp_min" in str(result.program) and "relu" not in str(result.program)
    (record,) = result.records
    assert record.changed and record.rewrites == 1 and record.nodes == (3, 3)
    assert record.verification.ok and record.contract == result.contract == Exact()
    assert result.rewrites == 1


def test_a_pass_that_changes_nothing_is_not_verified(program: Program, run: Any) -> None:
    result = run("test-nothing")
    assert result.program is program
    assert not result.records[0].changed and result.records[0].verification is None


@pytest.mark.parametrize("invariant", sorted(planted.BREAKS))
def test_a_pass_that_breaks_an_invariant(program: Program, run: Any, invariant: str) -> None:
    text = str(program)
    with pytest.raises(PassError, match=f"after pass 'test-breaks': invariant '{invariant}'") as caught:
        run(planted.Breaks(invariant), verify="off")
    assert (caught.value.code, caught.value.exit_status) == ("GO-4001", 4)
    if invariant in ("operands", "values", "purity", "level"):
        assert caught.value.node == "relu"
    assert str(program) == text


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("test-raises", "GO-4000", "pass 'test-raises' failed: KeyError: 'layer'"),
        ("test-returns-none", "GO-4001", "'test-returns-none' returned NoneType, not a program"),
        ("test-edits-input", "GO-4001", "'test-edits-input' changed its input program"),
        ("test-edits-weights", "GO-4001", "'test-edits-weights' changed its input program"),
        ("test-renames-output", "GO-4001", "after pass 'test-renames-output': invariant 'signature'"),
        ("test-core-only", "GO-4002", "'test-core-only' takes programs of level core, not torch"),
        ("test-claims-core", "GO-4001", "'test-claims-core' declares level core, its result is torch"),
        ("test-requires", "GO-4002", "'test-requires' requires folded, which no earlier pass ensures"),
        ("test-detaches", "GO-4001", "no gradient reaches first.bias, first.weight"),
    ],
)
def test_failures(run: Any, name: str, code: str, words: str) -> None:
    with pytest.raises(PassError, match=words) as caught:
        run(name)
    assert (caught.value.code, caught.value.exit_status) == (code, 4)


def test_parameters_that_no_output_needs_may_go() -> None:
    """They had no gradient before either."""
    layer = Call("dead", "aten.linear.default", (Ref("x"), Ref("w")))
    calls = (layer, Call("y", "aten.squeeze.dim", (Ref("x"), 0)))
    program = build_program(Graph((Leaf("x", (2, 3)), Leaf("w", (4, 3), role="weight")), calls, ("y",)))
    assert program.constants and not PassManager("cleanup{training=true}").run(program).program.constants


@pytest.mark.parametrize("name", ["test-renames-output-openly", "test-detaches-openly"])
def test_what_is_declared_is_allowed(run: Any, name: str) -> None:
    assert run(name).records[0].changed


def test_requirements_are_met_by_earlier_passes_until_one_changes_the_program(run: Any) -> None:
    fine = run("test-ensures", "test-nothing", planted.Requires(factor=1.0))
    assert len(fine.records) == 3
    with pytest.raises(PassError, match="requires folded") as caught:
        run("test-ensures", "test-relu-as-clamp", "test-requires")
    assert caught.value.code == "GO-4002"


def test_a_pass_that_changes_the_result(run: Any) -> None:
    with pytest.raises(VerificationError, match="after pass 'test-double'") as caught:
        run("test-relu-as-clamp", "test-double")
    assert (caught.value.code, caught.value.exit_status) == ("GO-5000", 5)


def test_the_end_of_the_pipeline_can_be_verified_alone(run: Any) -> None:
    result = run("test-relu-as-clamp", planted.Double(1.0), verify="final")
    assert [r.verification is not None for r in result.records] == [False, True]
    with pytest.raises(VerificationError, match="after the pipeline"):
        run("test-double", "test-relu-as-clamp", verify="final")
    # Two wrongs that undo each other leave a right whole.
    run(planted.Double(2.0), planted.Double(0.5), verify="final")


def test_verification_can_be_switched_off(run: Any) -> None:
    assert run("test-double", verify="off").records[0].verification is None


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_new_weights_in_an_equal_graph_are_a_change(program: Program, run: Any, factor: float) -> None:
    """Nothing but a weight differs: the result must not be taken for the input."""
    if factor == 1.0:
        result = run(planted.SwapsWeight(factor))
        assert result.records[0].changed and result.program is not program
    else:
        with pytest.raises(VerificationError):
            run(planted.SwapsWeight(factor))


def test_a_budget(program: Program, run: Any) -> None:
    result = run("test-lossy")
    assert result.contract == Lossy("relative_l2", 0.01)
    text = str(program)
    with pytest.raises(VerificationError, match="budget") as caught:
        run(planted.Lossily(1.1))
    assert (caught.value.code, caught.value.exit_status) == ("GO-5001", 5)
    assert str(program) == text


def test_budgets_add_up(run: Any) -> None:
    result = run(planted.Lossily(1.008), planted.Lossily(1.008))
    assert str(result.contract) == "lossy (relative_l2 <= 0.02)"


def test_a_bound(run: Any) -> None:
    assert str(run("test-bounded").contract) == "bounded by 0.5"
    with pytest.raises(VerificationError):
        run(planted.AddsWithinBound(bound=0.125))


def test_calibration_data_reaches_passes_and_verification(run: Any) -> None:
    batches = [(torch.randn(2, 4),), (torch.randn(5, 4),)]
    result = run("test-counts-batches", "test-relu-as-clamp", calibration=batches)
    assert result.records[0].notes == ["2 batches of 1"]
    sources = [draw.source for draw in result.records[1].verification.draws]
    assert sum("batch" in source for source in sources) == 2


class Both(CompositePass):
    """A pipeline with a name."""

    name = "test-both"

    def __init__(self, *parts: Pass) -> None:
        object.__setattr__(self, "parts", parts)

    def passes(self) -> Any:
        return self.parts  # type: ignore[attr-defined]


def test_composites_are_checked_part_by_part(run: Any) -> None:
    result = run(Both(planted.ReluAsClamp(), planted.Lossily()))
    (record,) = result.records
    assert [p.spec for p in record.parts] == ["test-relu-as-clamp", "test-lossy"]
    assert record.contract == Lossy("relative_l2", 0.01) and record.rewrites == 2
    with pytest.raises(PassError, match="after pass 'test-breaks'"):
        run(Both(planted.ReluAsClamp(), planted.Breaks("constants")))
    run(Both(planted.DetachesOpenly()))  # a part's declaration counts, not the composite's default


def test_an_empty_pipeline(program: Program) -> None:
    result = PassManager([]).run(program)
    assert result.program is program and result.contract == Exact() and result.records == []


def test_a_broken_program_is_refused_before_the_first_pass(program: Program) -> None:
    planted.BREAKS["values"](program)
    with pytest.raises(PassError, match="invariant 'values'"):
        PassManager("test-nothing").run(program)


def test_dead_code_that_a_pass_drops_stays_dropped(program: Program) -> None:
    """Only the nodes tell: the structural hash is of what the outputs need."""
    before = program.copy()
    used = before.output_nodes[0]
    with before.graph.inserting_after(used):
        dead = before.graph.call_function(torch.ops.aten.neg.default, (used,))
    dead.meta["val"] = used.meta["val"]
    result = PassManager("dead-code").run(before)
    assert result.records[0].changed
    assert "neg" in str(before) and "neg" not in str(result.program)
