"""Free choices of schedule rules: each with its default, which a formula gives, and what else it may be.

A rule asks for a choice where it needs one (``decisions.choose("tile.rows", default=8, options=...)``)
and gets the default unless somebody decided otherwise.  The space of a function is what its rule asks
for: running the rule finds it, so that space and schedule cannot drift apart.  (The define-by-run form
of search spaces: Akiba et al., "Optuna", KDD 2019.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class UnknownDecision(Exception):
    """A decision for a choice that the rule does not have, or a value that is not among its options."""


@dataclass(frozen=True)
class Choice:
    """One free choice.

    Attributes:
        default: what is taken when nobody decides; today's formula.
        options: the values that it may have, ascending; ``default`` is one of them.
    """

    default: int
    options: tuple[int, ...]


class Decisions:
    """What was decided, and which choices there were.

    Args:
        made: values by name; plain integers, so that they can be written down.

    Attributes:
        space: the choices that were asked for so far, by name, in that order.
    """

    def __init__(self, made: Mapping[str, int] | None = None) -> None:
        self.made = dict(made or {})
        self.space: dict[str, Choice] = {}

    def choose(self, name: str, default: int, options: Iterable[int]) -> int:
        """The value of a choice.

        Raises:
            UnknownDecision: what was decided is not among the options.
        """
        choice = Choice(default, tuple(sorted({default, *options})))
        self.space[name] = choice
        value = self.made.get(name, default)
        if value not in choice.options:
            raise UnknownDecision(f"{name} = {value} is not one of {choice.options}")
        return value

    def check_all_used(self) -> None:
        """To be called when the rule is done.

        Raises:
            UnknownDecision: something was decided that the rule did not ask for.
        """
        unused = sorted(set(self.made) - set(self.space))
        if unused:
            raise UnknownDecision(f"there is no choice {', '.join(unused)} here")
