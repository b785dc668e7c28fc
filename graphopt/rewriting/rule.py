"""Rewrite rules: ``pattern`` / ``check`` / ``rewrite``."""

from __future__ import annotations

import functools
import inspect
from typing import Any, ClassVar

from graphopt.rewriting.match import Emitter, Match, Verdict
from graphopt.rewriting.pattern import PatternOps, Var, anchors


class RewriteRule:
    """One local rewrite.

    A subclass writes three methods; their parameters after ``op`` are the pattern's variables::

        class DoubleNegation(RewriteRule):
            \"\"\"-(-x) -> x\"\"\"

            def pattern(self, op, x):
                return op.neg(op.neg(x))

            def rewrite(self, op, x):
                return x

    ``pattern`` returns a call, or a tuple of calls for a rewrite with several results.  ``check``
    may refuse a match with a reason.  ``rewrite`` returns the new value (a tuple for several); its
    parameters are any of the variables, and ``match`` for the whole match.
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = _kebab(cls.__name__)

    def pattern(self, op: PatternOps, *variables: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no pattern")

    def check(self, match: Match) -> Verdict:
        """Whether to rewrite this match: ``match.ok()`` or ``match.fail(reason)``."""
        return match.ok()

    def rewrite(self, op: Emitter, *values: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no rewrite")

    @property
    def description(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self) or "").split("\n")[0]


def compiled_pattern(rule: RewriteRule) -> tuple[Any, ...]:
    """The patterns of a rule, one a result; built once and kept on the rule.

    Raises:
        TypeError: the pattern is not a call, or a variable has the name of an attribute of
            :class:`Match`, which would hide it.
    """
    known = rule.__dict__.get("_compiled_pattern")
    if known is not None:
        return known
    names = list(inspect.signature(rule.pattern).parameters)[1:]
    hidden = [n for n in names if n in _RESERVED]
    if hidden:
        raise TypeError(f"rule {rule.name!r}: a variable cannot be called {hidden[0]!r}")
    built = rule.pattern(PatternOps(), *(Var(n) for n in names))
    patterns = built if isinstance(built, tuple) else (built,)
    for pattern in patterns:
        anchors(pattern)  # raises for a pattern that cannot be anchored
    rule.__dict__["_compiled_pattern"] = patterns  # rules may be frozen dataclasses
    return patterns


_RESERVED = {n for n in dir(Match) if not n.startswith("_")} | {
    "program",
    "bindings",
    "nodes",
    "results",
    "rule",
}


@functools.cache
def _parameters(rewrite: Any) -> tuple[str, ...]:
    """The parameters of a ``rewrite`` method after ``self`` and ``op``."""
    return tuple(inspect.signature(rewrite).parameters)[2:]


def apply_rewrite(rule: RewriteRule, emitter: Emitter, match: Match) -> tuple[Any, ...]:
    """Calls ``rewrite`` with the variables that it asks for; the new values, one a result."""
    values = [match if n == "match" else match.bindings.get(n) for n in _parameters(type(rule).rewrite)]
    results = rule.rewrite(emitter, *values)
    return results if isinstance(results, tuple) else (results,)


def _kebab(name: str) -> str:
    out = ""
    for i, char in enumerate(name):
        starts_word = char.isupper() and i and (not name[i - 1].isupper() or name[i + 1 : i + 2].islower())
        out += ("-" if starts_word else "") + char.lower()
    return out
