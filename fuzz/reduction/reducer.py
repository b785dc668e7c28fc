"""The reducer: from a finding to the smallest case with the same signature, in a bounded number of calls.

The order matters: cutting the graph makes every later call of the oracle cheaper, so that comes first, and
single attributes and elements come last.  Every step is deterministic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Finding
from graphopt.fuzz.oracles import Oracle
from graphopt.fuzz.reduction.judge import BudgetSpentError, Judge, Step
from graphopt.fuzz.reduction.plainer import (
    default_attributes,
    fewer_passes,
    float32_only,
    plain_layouts,
    small_integers,
)
from graphopt.fuzz.reduction.sizes import smaller_sizes, static_sizes
from graphopt.fuzz.reduction.slicing import first_bad_value, last_producers, without_calls

BUDGET = 60
"""Calls of the oracle."""

_STEPS: tuple[Callable[[FuzzCase, Judge], FuzzCase], ...] = (
    first_bad_value,
    last_producers,
    without_calls,
    fewer_passes,
    static_sizes,
    smaller_sizes,
    plain_layouts,
    float32_only,
    default_attributes,
    small_integers,
)


@dataclass(frozen=True)
class Reduced:
    """What is left of a finding.

    Attributes:
        finding: the small case, and its problem.
        original: the case as it was found.
        calls: of the oracle.
        steps: one each call.
        reproduced: whether the problem was there at all when it was tried again; if not, the case is as
            it was.
    """

    finding: Finding
    original: FuzzCase
    calls: int
    steps: tuple[Step, ...]
    reproduced: bool = True

    @property
    def case(self) -> FuzzCase:
        return self.finding.case


def reduce(finding: Finding, oracle: Oracle, budget: int = BUDGET) -> Reduced:
    """Makes a finding smaller.

    A case that says whether a rule has to fire keeps its graph where the finding is about that: any graph
    without the pattern would show the same.

    Args:
        finding: what a campaign found.
        oracle: the property that the case violates.
        budget: calls of the oracle, at least one.
    """
    holds = Judge(finding.signature, oracle, budget)
    if not holds.confirm(finding.case):
        return Reduced(finding, finding.case, holds.calls, tuple(holds.steps), reproduced=False)
    with contextlib.suppress(BudgetSpentError):  # what was reached is the result
        _reduce(finding.case, holds)
    assert holds.accepted is not None
    case, problem = holds.accepted
    case = replace(case, origin="reduced")
    return Reduced(Finding(case, problem), finding.case, holds.calls, tuple(holds.steps))


def _reduce(case: FuzzCase, holds: Judge) -> None:
    steps = _STEPS
    if case.rule is not None:
        free = replace(case, rule=None, expects=None)
        if holds(free, "whatever a rule should do"):
            case = free
        else:
            steps = (plain_layouts,)
    before = None
    while case != before:
        before = case
        for step in steps:
            case = step(case, holds)
