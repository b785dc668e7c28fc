"""Parameters stay trainable, and are trained in the same direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphopt.contract import BitExact, Exact, ExactWhen
from graphopt.errors import GraphoptError, PassError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.inputs import fresh_sets
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, exception_problem
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass, flatten
from graphopt.passmanager.gradients import check_gradients, trainable, with_gradient
from graphopt.verification.gradients import gradients_differ


class Gradients:
    """Every parameter that had a gradient has one; where both programs have the same parameters, the same.

    Only of pipelines that promise it (``preserves_training``), and the second only of those that keep the
    function.
    """

    name = "gradients"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return (
            subject.outcome.changed
            and all(p.preserves_training for p in flatten(subject.pipeline))
            and bool(trainable(subject.program))
        )

    def check(self, subject: Subject) -> Iterator[Problem]:
        after = subject.outcome.program
        assert after is not None
        try:
            kind = _lost(subject, subject.program, after, self._exact(subject))
        except (GraphoptError, RuntimeError) as error:
            yield exception_problem("+".join(p.name for p in subject.pipeline), self.name, error)
            return
        if kind is None:
            return

        def lost(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return _lost(subject, before, after, self._exact(subject)) is not None

        component, rule = culprit(subject.program, subject.pipeline, lost)
        words = "no gradient reaches a parameter" if kind == "lost" else "a parameter gets another gradient"
        yield Problem(Signature(component, self.name, kind, rule), f"after {component}, {words}")

    @staticmethod
    def _exact(subject: Subject) -> bool:
        result = subject.outcome.result
        return result is not None and isinstance(result.contract, BitExact | Exact | ExactWhen)


def _lost(subject: Subject, before: Program, after: Program, exact: bool) -> str | None:
    try:
        check_gradients(before, after, seed=subject.case.seed)
    except PassError:
        return "lost"
    gone = trainable(before).keys() - trainable(after).keys()
    came = trainable(after).keys() - trainable(before).keys()
    if not came and gone.intersection(with_gradient(before, subject.inputs)):
        return "lost"  # folded into something that is not trainable
    if not exact:
        return None
    sets = (subject.inputs, *fresh_sets(subject, 0))
    # A kink (a relu at zero) has two right gradients: one set of inputs proves nothing.
    return "different" if all(gradients_differ(before, after, inputs) for inputs in sets) else None
