"""Runs passes as users do, and says whose fault it is when that does not work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.errors import GraphoptError
from graphopt.fuzz.findings import Problem, Signature, normalised
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass, PassContext, RulePass, flatten
from graphopt.passmanager.manager import PassManager
from graphopt.passmanager.result import PassResult
from graphopt.rewriting.rule import RewriteRule

NOT_APPLICABLE = "GO-4002"
"""The pass says that it does not take this program, which is its right."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run of passes.

    Attributes:
        result: None where a pass failed.
        error: why it failed; None otherwise.
        refused: a pass does not take the program: its level, or what it requires.
    """

    result: PassResult | None = None
    error: BaseException | None = None
    refused: bool = False

    @property
    def program(self) -> Program | None:
        """What the passes made; None where one failed."""
        return self.result.program if self.result is not None else None

    @property
    def changed(self) -> bool:
        """Whether the passes ran to their end and changed something."""
        return self.result is not None and any(r.changed for r in self.result.records)


def run_passes(program: Program, passes: Sequence[Pass]) -> Outcome:
    """The result of the pass manager, with its checks of invariants and without verification.

    What a pass raises is part of the outcome, whatever it is.
    """
    try:
        return Outcome(PassManager(list(passes), verify="off", reproducer_dir=False).run(program))
    except GraphoptError as error:
        return Outcome(error=error, refused=error.code == NOT_APPLICABLE)
    except Exception as error:  # a pass manager that stumbles is a finding like any other
        return Outcome(error=error)


Wrong = Callable[[Program, Program, Sequence[Pass]], bool]
"""``wrong(before, after, passes)``: whether passes made something of a program that they must not."""


def culprit(program: Program, passes: Sequence[Pass], wrong: Wrong) -> tuple[str, str]:
    """The first pass, and the rule in it, whose own step is wrong.

    Passes are looked at one by one, the parts of composites too, each on what the one before it left.

    Returns:
        Name of the pass, and of the rule or ``""``.  Where no step is wrong by itself, the names of all
        passes and ``"together"``.
    """
    for item in flatten(passes):
        outcome = run_passes(program, [item])
        if outcome.error is not None:
            return item.name, rule_at_fault(program, item, wrong)
        assert outcome.program is not None
        if outcome.program is not program and wrong(program, outcome.program, [item]):
            return item.name, rule_at_fault(program, item, wrong)
        program = outcome.program
    return "+".join(p.name for p in passes), "together"


def rule_at_fault(program: Program, item: Pass, wrong: Wrong) -> str:
    """The first rule of a pass that is wrong without the others, or ``""``."""
    for rule in item.rules() if isinstance(item, RulePass) else ():
        alone = Alone.of(rule)
        outcome = run_passes(program, [alone])
        if outcome.error is not None or (
            outcome.program is not None
            and outcome.program is not program
            and wrong(program, outcome.program, [item])
        ):
            return rule.name
    return ""


class Alone(RulePass):
    """One rule as a pass."""

    rule: RewriteRule

    @staticmethod
    def of(rule: RewriteRule) -> Alone:
        """The pass of ``rule``."""
        found = Alone()
        object.__setattr__(found, "rule", rule)  # passes are frozen
        return found

    def rules(self) -> Sequence[RewriteRule]:
        return (self.rule,)


def apply_rule(program: Program, rule: RewriteRule) -> tuple[Program, int]:
    """What one rule makes of a program, and how often it was applied.

    Raises:
        whatever the rule raises.
    """
    context = PassContext()
    after = Alone.of(rule).apply(program, context)
    return after, sum(s.matched for s in context.statistics)


def exception_problem(
    component: str, oracle: str, error: BaseException, detail: str = "", **facts: object
) -> Problem:
    """The problem of something that raised."""
    message = error.message if isinstance(error, GraphoptError) else f"{type(error).__name__}: {error}"
    code = {"code": error.code} if isinstance(error, GraphoptError) else {}
    signature = Signature(component, oracle, "exception", detail or normalised(message))
    return Problem(signature, f"{component}: {message}", {**code, **facts})
