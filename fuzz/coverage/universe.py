"""What a campaign could have exercised: the passes under test, and their rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.errors import UsageError
from graphopt.fuzz.coverage.behaviour import Behaviour
from graphopt.passmanager.base import Pass, RulePass, flatten
from graphopt.passmanager.registry import build_pass, pass_names


@dataclass(frozen=True)
class Universe:
    """Names, sorted.

    Attributes:
        passes: those that rewrite themselves, not composites of others.
        rules: of those passes.
    """

    passes: tuple[str, ...]
    rules: tuple[str, ...]

    @staticmethod
    def of(specs: Sequence[str] = ()) -> Universe:
        """The passes of some specifications with their parts; without any, every pass that is installed.

        Raises:
            UsageError: there is no such pass.
        """
        if specs:
            passes = flatten([build_pass(spec) for spec in specs])
        else:
            passes = flatten([p for p in map(_with_defaults, pass_names()) if p is not None])
        rules = {rule.name for p in passes if isinstance(p, RulePass) for rule in p.rules()}
        return Universe(tuple(sorted({p.name for p in passes})), tuple(sorted(rules)))

    def idle_passes(self, behaviour: Behaviour) -> list[str]:
        """Passes that never changed a program."""
        changed = {name for name, outcome in behaviour.counts["passes"] if outcome == "changed"}
        return [name for name in self.passes if name not in changed]

    def idle_rules(self, behaviour: Behaviour) -> list[str]:
        """Rules that never fired."""
        fired = {rule for rule, outcome, _ in behaviour.counts["rules"] if outcome == "fired"}
        return [rule for rule in self.rules if rule not in fired]


def _with_defaults(name: str) -> Pass | None:
    """A pass by name; None for one whose options have no defaults, or whose package cannot be imported."""
    try:
        return build_pass(name)
    except UsageError:
        return None
