"""What the pass manager itself watches over, and that the input is left alone to the last byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from graphopt.errors import GraphoptError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, exception_problem
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass


class Invariants:
    """Passes run to their end, and each leaves a valid program with the interface that it was given.

    The pass manager checks that after every pass, the parts of composites too.
    """

    name = "invariants"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return not subject.outcome.refused

    def check(self, subject: Subject) -> Iterator[Problem]:
        error = subject.outcome.error
        if error is None:
            return

        def never(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return False  # a part that runs is not at fault

        component, rule = culprit(subject.program, subject.pipeline, never)
        broken = re.search(r"invariant '(\w+)'", str(error))
        if isinstance(error, GraphoptError) and broken is not None:
            signature = Signature(component, self.name, broken[1], rule)
            yield Problem(
                signature, f"{component}: {error.message}", {"code": error.code, "node": error.node}
            )
        else:
            yield exception_problem(component, self.name, error, rule)


class Untouched:
    """The input program is what it was: structure, names, and the bytes of every weight."""

    name = "untouched"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return not subject.outcome.refused

    def check(self, subject: Subject) -> Iterator[Problem]:
        if (subject.program.structural_hash(), str(subject.program)) == subject.before:
            return
        before = subject.before
        fresh = Subject(subject.case)

        def changed(program: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return program is fresh.program and program.structural_hash() != before[0]

        component, rule = culprit(fresh.program, subject.pipeline, changed)
        yield Problem(
            Signature(component, self.name, "mutated", rule), f"{component} changed the program it was given"
        )
