"""Rules fire on their positive cases, and refuse the near misses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import apply_rule, exception_problem
from graphopt.fuzz.oracles.subject import Subject
from graphopt.passmanager.base import RulePass
from graphopt.passmanager.registry import get_pass, pass_names
from graphopt.rewriting.rule import RewriteRule


class Firing:
    """The rule of the case's template fires on a positive case and refuses a near miss.

    Without this, a rule that never fires has every other property.
    """

    name = "firing"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.case.rule is not None and subject.case.rule in known_rules()

    def check(self, subject: Subject) -> Iterator[Problem]:
        rule, pass_name = known_rules()[subject.case.rule or ""]
        try:
            _, fired = apply_rule(subject.program, rule)
        except Exception as error:
            yield exception_problem(pass_name, self.name, error, rule.name)
            return
        if subject.case.expects == "fires" and not fired:
            signature = Signature(pass_name, self.name, "silent", rule.name)
            yield Problem(signature, f"{rule.name} does not fire on a case made for it")
        if subject.case.expects == "refuses" and fired:
            signature = Signature(pass_name, self.name, "overreach", rule.name)
            yield Problem(signature, f"{rule.name} fires where a condition of it does not hold")


@functools.cache
def known_rules() -> dict[str, tuple[RewriteRule, str]]:
    """The rules of all registered passes that need no options, with the first pass that has them.

    Where a pass has an option ``training``, its more careful form comes first: near misses are about
    parameters too.
    """
    found: dict[str, tuple[RewriteRule, str]] = {}
    for name in pass_names():
        cls = get_pass(name)
        if not issubclass(cls, RulePass):
            continue
        names = {f.name for f in dataclasses.fields(cls)}
        for options in ({"training": True}, {}):
            if options.keys() <= names and not _required(cls) - options.keys():
                for rule in cls(**options).rules():
                    found.setdefault(rule.name, (rule, name))
    return found


def _required(cls: type[RulePass]) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing}
