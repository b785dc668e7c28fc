"""From traces to a file: deterministic, judged on hold-out calls, and honest about what is left out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from graphopt.frontends.torch_module import capture_torch
from graphopt.fuzz.inference import holdout
from graphopt.fuzz.inference.__main__ import main
from graphopt.fuzz.inference.admission import refusal
from graphopt.fuzz.inference.build import build
from graphopt.fuzz.inference.learner import Learned, Learner
from graphopt.fuzz.inference.oracle import Oracle
from graphopt.fuzz.inference.partial import partial_operators
from graphopt.fuzz.inference.sampling import Samples, Walk
from graphopt.fuzz.rules.expressions import parse_expression, parse_predicate
from graphopt.fuzz.rules.file import dump_rules, load_rules
from graphopt.fuzz.traces.collect import collect
from graphopt.fuzz.traces.programs import program_records
from graphopt.fuzz.traces.record import Record, TensorSpec
from graphopt.fuzz.traces.recorder import Recorder


@pytest.fixture(scope="module")
def traces() -> list[Record]:
    return collect(
        ["op_db"], operators=["pixel_shuffle", "nn.functional.pixel_shuffle", "narrow", "nonzero", "dropout"]
    )


def test_composite_operators_and_what_they_consist_of_are_both_recorded() -> None:
    recorder = Recorder()
    x, weight = torch.randn(1, 4, 6, 6), torch.randn(2, 4, 3, 3)
    with recorder.recording("here"):
        F.conv2d(x, weight, padding=1)
    seen = {record.overload: record for record in recorder.records}
    assert {"aten.conv2d.default", "aten.convolution.default"} <= set(seen)
    record = seen["aten.conv2d.default"]
    assert record.arguments == (
        TensorSpec(torch.float32, (1, 4, 6, 6)),
        TensorSpec(torch.float32, (2, 4, 3, 3)),
        None,
        (1, 1),
        (1, 1),
        (1, 1),
        1,
    )
    assert record.outputs == (TensorSpec(torch.float32, (1, 2, 6, 6)),)
    assert (record.source, record.valid) == ("here", True)


def test_a_call_that_fails_is_recorded_as_invalid() -> None:
    recorder = Recorder()
    with recorder.recording("here"), pytest.raises(RuntimeError):
        torch.cat([torch.zeros(2, 3), torch.zeros(2, 4)])
    (record,) = (r for r in recorder.records if r.overload == "aten.cat.default")
    assert not record.valid


def test_programs_are_traces_too() -> None:
    program = capture_torch(torch.nn.Linear(4, 3).eval(), (torch.zeros(2, 4),))
    (record,) = program_records(program, "mine")
    assert (record.overload, record.source) == ("aten.linear.default", "mine")


def test_a_rebuild_is_the_same_to_the_last_byte(traces: list[Record]) -> None:
    only = ["aten.pixel_shuffle.default"]
    first, again = (dump_rules(build(traces, only=only, jobs=jobs)) for jobs in (1, 2))
    assert first == again
    assert '"usable":true' in first


def test_operators_that_are_no_functions_of_shapes_are_left_out_with_a_reason(traces: list[Record]) -> None:
    assert refusal("aten.nonzero.default") == "data decides the shape of its result"
    assert refusal("aten.relu_.default") == "changes an argument"
    assert refusal("aten.conv2d.default") is None
    made = build(traces, only=["aten.nonzero.default"])
    assert made.overloads() == () and made.missing == {
        "aten.nonzero.default": "data decides the shape of its result"
    }


def judged(constraints: list[str], outputs: list[str]) -> holdout.HoldOut:
    """Hold-out figures of a rule for ``torch.cat`` of two matrices."""
    shape = TensorSpec(torch.float32, (2, 3))
    (partial,) = partial_operators(
        [Record("aten.cat.default", ((shape, shape), 0), (TensorSpec(torch.float32, (4, 3)),), "")]
    )
    oracle, rng = Oracle(partial), random.Random(0)
    floors = [1] * 4
    samples = Walk(oracle, partial.records, rng, floors).samples
    learner = Learner(oracle, samples, rng, floors)
    learned = Learned(tuple(map(parse_predicate, constraints)), tuple(map(parse_expression, outputs)))
    return holdout.judge(
        learned,
        oracle,
        Samples(),
        Walk(oracle, partial.records, rng, floors, holdout.SIZES),
        lambda system: learner.propose(system, holdout.SIZES),
        learner.system(learned.constraints),
    )


RIGHT = (["tensors_0_1 == tensors_1_1"], ["tensors_0_0 + tensors_1_0", "tensors_0_1"])


def test_the_hold_out_gate_lets_the_right_rule_pass() -> None:
    figures = judged(*RIGHT)
    assert figures.passes(holdout.THRESHOLD) and figures.valid > 100 and figures.invalid > 50


@pytest.mark.parametrize(
    ("constraints", "outputs", "figure"),
    [
        (RIGHT[0], ["max(tensors_0_0 + tensors_1_0, 4)", "tensors_0_1"], "exact"),
        (RIGHT[0], ["2*tensors_0_0", "tensors_0_1"], "exact"),
        ([*RIGHT[0], "tensors_0_0 >= tensors_1_0"], RIGHT[1], "recall"),
        ([*RIGHT[0], "12 >= tensors_0_0"], RIGHT[1], "recall"),
        ([], RIGHT[1], "precision"),
        (["tensors_0_1 >= tensors_1_1"], RIGHT[1], "precision"),
    ],
)
def test_the_hold_out_gate_rejects_an_overfitted_rule(
    constraints: list[str], outputs: list[str], figure: str
) -> None:
    figures = judged(constraints, outputs)
    assert not figures.passes(holdout.THRESHOLD)
    assert getattr(figures, figure) < holdout.THRESHOLD


def test_the_cpu_overrules_a_meta_device_that_accepts_too_much() -> None:
    """``conv2d`` on the meta device takes groups that do not divide the output channels, the CPU does not."""
    x, weight = TensorSpec(torch.float32, (1, 4, 5, 5)), TensorSpec(torch.float32, (4, 2, 1, 1))
    result = TensorSpec(torch.float32, (1, 4, 5, 5))
    call = Record("aten.conv2d.default", (x, weight, None, (1, 1), (0, 0), (1, 1), 2), (result,), "")
    (partial,) = partial_operators([call])
    oracle = Oracle(partial)
    values = dict(zip(partial.symbols, partial.records[0], strict=True)) | {"weight_0": 3}
    assert oracle.run(values, "meta") is not None and oracle.run(values, "cpu") is None
    assert oracle(tuple(values.values())) is None
    assert oracle.strict and oracle.loose == values


def test_some_overloads_are_inferred_again_and_the_rest_is_kept(
    traces: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt.fuzz.traces.collect.collect", lambda **_: traces)
    path = tmp_path / "rules.json"
    assert main(["--write", str(path), "--jobs", "1", "--ops", "aten.pixel_shuffle.default"]) == 0
    assert main(["--write", str(path), "--jobs", "1", "--ops", "aten.narrow.default"]) == 0
    assert set(load_rules(path).overloads()) == {"aten.pixel_shuffle.default", "aten.narrow.default"}


def test_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", str(tmp_path / "r.json"), "--ops", "aten.no_such.default"]) == 2
    assert main(["--write", str(tmp_path / "absent" / "r.json")]) == 3
    assert main(["--check", str(tmp_path / "absent.json")]) == 3
    assert "GO-3001" in capsys.readouterr().err
