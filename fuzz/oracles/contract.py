"""The contract: a pipeline computes what its passes, taken together, promise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from graphopt.contract import Equivalence, Exact, Lossy
from graphopt.errors import GraphoptError, InputError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.inputs import fresh_sets, input_sets
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, exception_problem, run_passes
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.verification import VerificationReport, verify

CERTAIN_RATIO = 64.0
"""No rounding is off by this factor of what is allowed: one such error is a failure by itself."""


class Contract:
    """The result computes what its contract says, by :func:`graphopt.verification.verify`.

    The contract is the one that the run returned, of all passes together.  A failure is tried again on
    fresh inputs, and reported if one of them fails too or the error is far beyond rounding.
    """

    name = "contract"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.outcome.changed

    def check(self, subject: Subject) -> Iterator[Problem]:
        result = subject.outcome.result
        assert result is not None
        yield from broken_contract(
            subject, subject.program, result.program, result.contract, subject.pipeline, self.name
        )


def broken_contract(
    subject: Subject,
    before: Program,
    after: Program,
    contract: Equivalence,
    passes: Sequence[Pass],
    oracle: str,
) -> Iterator[Problem]:
    """The problem of a result that does not keep a contract, if there is one."""
    try:
        report = failed_report(subject, before, after, contract)
    except (GraphoptError, RuntimeError) as error:
        yield exception_problem("+".join(p.name for p in passes), oracle, error)
        return
    if report is None:
        return

    def wrong(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
        own = run_passes(before, passes).result
        return _fails(subject, before, after, own.contract if own is not None else Exact())

    component, rule = culprit(before, passes, wrong)
    yield value_problem(report, component, oracle, rule)


def failed_report(
    subject: Subject, before: Program, after: Any, contract: Equivalence
) -> VerificationReport | None:
    """The report of a failed and confirmed comparison; None where the contract holds.

    Raises:
        InputError: the original does not run on the inputs.
        VerificationError: the result does not run.
    """
    if _draws_its_own(contract):
        report = verify(before, after, contract=contract, draws=2, seed=subject.case.seed)
        return None if report.ok or not (report.failures or report.metrics) else report
    for attempt, inputs in enumerate(input_sets(subject)):
        report = verify(before, after, contract=contract, inputs=[inputs], seed=subject.case.seed, quick=True)
        if report.failures and confirmed(subject, before, after, contract, attempt, report):
            return report
    if subject.case.graph.sizes:
        report = _other_sizes(before, after, contract, subject.case.seed)
        return report if report.failures else None
    return None


def confirmed(
    subject: Subject,
    before: Program,
    after: Any,
    contract: Equivalence,
    attempt: int,
    report: VerificationReport,
) -> bool:
    """Whether a failure is more than one unlucky set of inputs."""
    if max(o.worst.ratio for _, o in report.failures) >= CERTAIN_RATIO:
        return True
    for fresh in fresh_sets(subject, attempt):
        if verify(before, after, contract=contract, inputs=[fresh], seed=subject.case.seed + 1).failures:
            return True
    return False


def _other_sizes(before: Program, after: Any, contract: Equivalence, seed: int) -> VerificationReport:
    """Dynamic axes of other sizes than those of the case."""
    return verify(before, after, contract=contract, draws=3, seed=seed, quick=True)


def _draws_its_own(contract: Equivalence) -> bool:
    """Metrics are means over draws, and preconditions say themselves which inputs they allow."""
    return isinstance(contract, Lossy) or bool(getattr(contract, "preconditions", ()))


def _fails(subject: Subject, before: Program, after: Program, contract: Equivalence) -> bool:
    try:
        return failed_report(subject, before, after, contract) is not None
    except (GraphoptError, RuntimeError) as error:
        return not isinstance(error, InputError)


def value_problem(report: VerificationReport, component: str, oracle: str, detail: str) -> Problem:
    """The problem that a failed comparison shows."""
    if not report.failures:
        over = ", ".join(m.name for m in report.metrics if not m.ok)
        signature = Signature(component, oracle, "budget", detail or over)
        return Problem(signature, f"{component}: {report.error().message}", report.to_dict())
    _, output = max(report.failures, key=lambda f: f[1].worst.ratio)
    worst = output.worst
    facts = {
        "output": output.name,
        "error": _number(worst.max_error),
        "allowed": _number(worst.allowed),
        "ratio": _number(worst.ratio),
        "mismatches": worst.mismatches,
        "elements": worst.elements,
        "contract": report.contract,
    }
    signature = Signature(component, oracle, _kind(output.problem or ""), detail)
    return Problem(signature, f"{component}: {report.explanation()}", facts)


def _kind(problem: str) -> str:
    for words, kind in (("NaN", "nan"), (r"^shape|, shape ", "shape"), ("^dtype", "dtype")):
        if re.search(words, problem):
            return kind
    return "value"


def _number(value: float) -> float | str:
    return value if torch.tensor(value).isfinite() else str(value)  # JSON has no infinity
