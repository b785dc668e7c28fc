"""Quick verification gives the verdict of the full rule, on right results and on wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphopt import Bounded, Exact, PassManager, Program, Rewriter
from graphopt.fuzz.generation import Options, generate
from graphopt.fuzz.graphs import build_program, draw_inputs
from graphopt.verification import verify
from graphopt.verification.noise import NoiseMeasurement, measure_noise

aten = torch.ops.aten
CASES = [generate(3, i, Options(dynamic=0.0)) for i in range(30)]


def scaled(program: Program, factor: float) -> Program:
    """The program with every floating-point output multiplied by a number."""
    rewriter = Rewriter(program, "scale")
    for node in dict.fromkeys(rewriter.program.output_nodes):
        if node.meta["val"].dtype.is_floating_point and node.op == "call_function":
            with rewriter.rule("scale", [node]), rewriter.after(node):
                product = rewriter.call(aten.mul.Scalar, node, factor)
                for user in [u for u in node.users if u is not product]:
                    rewriter.substitute(user, node, product)
    return rewriter.finish()


def shifted(program: Program, amount: float) -> Any:
    """A callable that adds to every floating-point output."""
    return lambda *x: tuple(y + amount if y.is_floating_point() else y for y in program(*x))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.label)
def test_the_verdict_is_the_same(case: Any) -> None:
    program = build_program(case.graph, case.seed)
    inputs = [draw_inputs(case.graph, case.seed)]
    candidates: list[Any] = [PassManager("cleanup", verify="off").run(program).program, program]
    candidates += [scaled(program, 1 + 2.0**-k) for k in (8, 14, 18, 20, 22)]
    candidates += [shifted(program, 10.0**-k) for k in (3, 5, 6, 7)]
    for candidate in candidates:
        quick = verify(program, candidate, inputs=inputs, quick=True)
        full = verify(program, candidate, inputs=inputs)
        # What rounding decides throughout is inconclusive in full, and may be accepted as it stands.
        assert bool(quick.failures) == bool(full.failures)
        assert quick.ok == full.ok or (quick.ok and full.inconclusive)


def test_both_verdicts_occur() -> None:
    program = build_program(CASES[0].graph, CASES[0].seed)
    inputs = [draw_inputs(CASES[0].graph, CASES[0].seed)]
    assert verify(program, program, inputs=inputs, quick=True).draws[0].runs == 0
    assert verify(program, shifted(program, 1.0), inputs=inputs, quick=True).failures


def test_a_bound_counts() -> None:
    module = torch.nn.Linear(4, 3).eval()
    from graphopt import capture

    program = capture(module, (torch.randn(2, 4),))
    wrong = shifted(program, 0.25)
    assert verify(program, wrong, contract=Bounded(0.26), quick=True).ok
    assert not verify(program, wrong, contract=Bounded(0.24), quick=True).ok
    assert not verify(program, wrong, contract=Exact(), quick=True).ok


def test_another_shape_dtype_or_number_of_outputs_is_explained_as_in_full() -> None:
    program = build_program(CASES[0].graph, CASES[0].seed)
    for wrong in (
        lambda *x: tuple(y[None] for y in program(*x)),
        lambda *x: tuple(y.to(torch.complex128) for y in program(*x)),
    ):
        quick, full = (verify(program, wrong, draws=1, quick=q) for q in (True, False))
        assert [o.problem for _, o in quick.failures] == [o.problem for _, o in full.failures]


def test_a_measurement_in_steps_is_the_measurement() -> None:
    case = CASES[1]
    program = build_program(case.graph, case.seed)
    inputs = draw_inputs(case.graph, case.seed)
    whole = measure_noise(program.graph_module, inputs, seed=5)
    steps = NoiseMeasurement(program.graph_module, inputs, seed=5)
    before = [n.clone() for n in steps.noise]
    for _ in range(3):
        steps.run()
        assert all(bool((a <= b).all()) for a, b in zip(before, steps.noise, strict=True))
        before = [n.clone() for n in steps.noise]
    for ours, theirs in zip(steps.complete().outputs, whole.outputs, strict=True):
        assert torch.equal(ours.noise, theirs.noise)
        assert torch.equal(ours.unstable, theirs.unstable)
