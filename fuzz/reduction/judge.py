"""Decides whether a smaller case still shows the problem, and counts what that costs.

A candidate that cannot be built, or that torch itself cannot run, is turned down without asking the
oracle: those of a compiler take seconds a call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.graphs import build_program, draw_inputs
from graphopt.fuzz.oracles import Oracle, Subject


class BudgetSpentError(Exception):
    """The oracle was asked as often as it may be; what was reached so far is the result."""


@dataclass(frozen=True)
class Step:
    """One question to the oracle.

    Attributes:
        words: what the candidate leaves out or makes plainer.
        kept: whether the problem is still there.
        operators: of the candidate.
    """

    words: str
    kept: bool
    operators: int


class Judge:
    """Holds candidates against the signature of a finding.

    Args:
        signature: what has to stay.
        oracle: finds the problem.
        budget: calls of the oracle.

    Attributes:
        calls: of the oracle so far.
        steps: one each call.
        accepted: the last candidate with the problem, and the problem as it has it.
    """

    def __init__(self, signature: Signature, oracle: Oracle, budget: int) -> None:
        self.signature = signature
        self.oracle = oracle
        self.budget = budget
        self.calls = 0
        self.steps: list[Step] = []
        self.accepted: tuple[FuzzCase, Problem] | None = None
        self._answers: dict[str, Problem | None] = {}
        self._running: dict[str, bool] = {}
        self._finite = signature.kind != "nan"

    def __call__(self, candidate: FuzzCase, words: str) -> bool:
        """Whether the candidate has a problem of the same signature.

        Raises:
            BudgetSpentError: the oracle may not be asked again.
        """
        key = json.dumps(candidate.to_dict(), sort_keys=True)
        if key not in self._answers:
            self._answers[key] = self._asked(candidate, words) if self.runs(candidate) else None
        problem = self._answers[key]
        if problem is not None:
            self.accepted = candidate, problem
        return problem is not None

    def runs(self, candidate: FuzzCase) -> bool:
        """Whether the candidate can be built and torch runs it, to finite numbers.

        A case that kills its process is only built.
        """
        key = json.dumps(candidate.to_dict(), sort_keys=True)
        if key not in self._running:
            self._running[key] = self._runs(candidate)
        return self._running[key]

    def _runs(self, candidate: FuzzCase) -> bool:
        try:
            program = build_program(candidate.graph, candidate.seed)
            if self.signature.kind in ("crash", "timeout"):
                return True
            with torch.no_grad():
                outputs = program(*draw_inputs(candidate.graph, candidate.seed))
        except Exception:  # kernels refuse operands with every type of exception there is
            return False
        return not self._finite or all(_finite(y) for y in outputs)

    def confirm(self, case: FuzzCase) -> bool:
        """Whether the case to start with has the problem; its infinities, if any, are then allowed."""
        self._finite = self._finite and self._runs(case)
        problem = self._asked(case, "the case as it was found")
        self.accepted = (case, problem) if problem else None
        return problem is not None

    def _asked(self, candidate: FuzzCase, words: str) -> Problem | None:
        if self.calls >= self.budget:
            raise BudgetSpentError
        self.calls += 1
        problem = _first(self._problems(candidate), self.signature)
        self.steps.append(Step(words, problem is not None, len(candidate.graph.operators)))
        return problem

    def _problems(self, candidate: FuzzCase) -> Iterable[Problem]:
        subject = Subject(candidate)
        return self.oracle.check(subject) if self.oracle.applies(subject) else ()


def _first(problems: Iterable[Problem], signature: Signature) -> Problem | None:
    return next((p for p in problems if p.signature == signature), None)


def _finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())
