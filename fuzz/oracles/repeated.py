"""Passes run again: on the same program, and on their own result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphopt.contract import BitExact, Exact, ExactWhen
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, run_passes
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass, flatten

MOST_ROUNDS = 3
"""Applications of a pipeline to its own result until nothing changes any more."""


class Fixpoint:
    """A pipeline comes to rest: applied to its own result, it changes nothing after a few rounds.

    Not asked of passes that change the function: half of the weights may be pruned again and again.
    """

    name = "fixpoint"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        result = subject.outcome.result
        exact = result is not None and isinstance(result.contract, BitExact | Exact | ExactWhen)
        return exact and subject.outcome.changed

    def check(self, subject: Subject) -> Iterator[Problem]:
        result = subject.outcome.result
        assert result is not None
        if _rests(result.program, subject.pipeline):
            return

        def restless(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return not _rests(after, passes)

        component, rule = culprit(subject.program, subject.pipeline, restless)
        yield Problem(
            Signature(component, self.name, "growth", rule),
            f"{component} still changes its own result after {MOST_ROUNDS} rounds",
        )


def _rests(program: Program, passes: Sequence[Pass]) -> bool:
    known = program.structural_hash()
    for _ in range(MOST_ROUNDS):
        outcome = run_passes(program, passes)
        if outcome.program is None:
            return False
        program = outcome.program
        before, known = known, program.structural_hash()
        if known == before:
            return True
    return False


class NoOperation:
    """Where no rule is applied and nothing is dropped, the result is the input, weights and all."""

    name = "no-operation"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        result = subject.outcome.result
        renames = any(p.changes_signature for p in flatten(subject.pipeline))
        return result is not None and not result.rewrites and not renames

    def check(self, subject: Subject) -> Iterator[Problem]:
        result = subject.outcome.result
        assert result is not None
        if result.program.structural_hash() == subject.before[0]:
            return

        def different(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return before.structural_hash() != after.structural_hash()

        component, rule = culprit(subject.program, subject.pipeline, different)
        yield Problem(
            Signature(component, self.name, "unrecorded", rule),
            f"{component} changed the program and recorded no rewrite",
        )
