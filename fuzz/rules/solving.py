"""Sizes and attributes that satisfy constraints, drawn at random in milliseconds.

Local search with the min-conflicts heuristic of Minton et al. ("Minimizing conflicts: a heuristic repair
method for constraint satisfaction and scheduling problems", Artificial Intelligence 58, 1992): one symbol
of a violated predicate moves to a value, drawn among those that leave the fewest violated.  Systems of
operators are nearly triangular, so that a few moves do.  Where they do not, Z3 decides.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.fuzz.rules.expressions import (
    AnyOf,
    Comparison,
    Expression,
    Operation,
    Predicate,
    Symbol,
    evaluator,
    symbols,
)

if TYPE_CHECKING:
    import z3

SPAN = 64
"""Values of a symbol that one move considers, beside those that make an equation true."""
MOVES = 60
"""Moves before a search starts again."""


def negation(predicate: Predicate) -> list[Predicate]:
    """Predicates that hold together exactly where the given one does not."""
    if isinstance(predicate, AnyOf):
        return [p for option in predicate.options for p in negation(option)]
    left, right = predicate.left, predicate.right
    match predicate.relation:
        case "==":
            return [AnyOf((Comparison(">", left, right), Comparison(">", right, left)))]
        case ">=":
            return [Comparison(">", right, left)]
    return [Comparison(">=", right, left)]


class ConstraintSystem:
    """Predicates over symbols with ranges.

    Args:
        ranges: the least and greatest value of each symbol, inclusive.
        predicates: over these symbols only.
    """

    def __init__(self, ranges: Mapping[str, tuple[int, int]], predicates: Sequence[Predicate]) -> None:
        self.ranges = dict(ranges)
        self.predicates = tuple(predicates)
        self._tests = [evaluator(p) for p in self.predicates]
        self._names = [tuple(symbols(p)) for p in self.predicates]
        self._touching: dict[str, list[int]] = {name: [] for name in self.ranges}
        for i, names in enumerate(self._names):
            for name in names:
                self._touching[name].append(i)
        self._equations = [_equations(p) for p in self.predicates]

    def holds(self, values: Mapping[str, int]) -> bool:
        """Whether values of all symbols satisfy everything, ranges included."""
        inside = all(low <= values[name] <= high for name, (low, high) in self.ranges.items())
        return inside and all(test(values) for test in self._tests)

    def truth(self, columns: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """For columns of values: which of the ``count`` rows satisfy everything."""
        found = np.ones(count, dtype=bool)
        for name, (low, high) in self.ranges.items():
            found &= (columns[name] >= low) & (columns[name] <= high)
        for test in self._tests:
            found &= test(columns)
        return found

    def solve(
        self, rng: random.Random, start: Mapping[str, int], bound: frozenset[str] | set[str] = frozenset()
    ) -> dict[str, int] | None:
        """Values that satisfy everything, near a start; None where the search finds none.

        Args:
            start: a value for every symbol.
            bound: the symbols that keep their values.
        """
        values = {name: start[name] for name in self.ranges}
        for name, (low, high) in self.ranges.items():
            if name in bound and not low <= values[name] <= high:
                return None
            values[name] = min(max(values[name], low), high)
        for _ in range(MOVES):
            violated = [i for i, test in enumerate(self._tests) if not test(values)]
            if not violated:
                return values
            free = [name for name in self._names[rng.choice(violated)] if name not in bound]
            if not free:
                return None
            name = rng.choice(free)
            values[name] = self._move(rng, name, values)
        return None

    def _move(self, rng: random.Random, name: str, values: dict[str, int]) -> int:
        touching = self._touching[name]
        options = self._options(name, values, touching)
        column: dict[str, Any] = {**values, name: options}
        conflicts = np.zeros(len(options), dtype=np.int64)
        for i in touching:
            conflicts += ~np.asarray(self._tests[i](column), dtype=bool)
        best = np.flatnonzero(conflicts == conflicts.min())
        return int(options[best[rng.randrange(len(best))]])

    def _options(self, name: str, values: dict[str, int], touching: list[int]) -> np.ndarray:
        low, high = self.ranges[name]
        first = max(low, min(values[name] - SPAN // 2, high - SPAN + 1))
        found = set(range(first, min(high, first + SPAN - 1) + 1))
        for i in touching:
            for left, right in self._equations[i]:
                found.update(_roots(name, values, left, right))
        return np.array(sorted(v for v in found if low <= v <= high), dtype=np.int64)

    def prove(
        self, rng: random.Random, fixed: Mapping[str, int], hints: Mapping[str, int]
    ) -> dict[str, int] | None:
        """Values found by Z3; None where there are none or its budget did not suffice.

        Args:
            fixed: values that are given.
            hints: values to take where possible; as many as fit, in random order.
        """
        import z3

        from graphopt.fuzz.rules.smt import model_of

        made = self._z3
        given = [z3.Int(name) == value for name, value in fixed.items()]
        hinted = [z3.Int(name) == value for name, value in hints.items() if name not in fixed]
        rng.shuffle(hinted)
        while True:
            found = model_of(made, list(self.ranges), *given, *hinted)
            if found is not None or not hinted:
                return found
            core = {c.get_id() for c in made.unsat_core()}
            blamed = next((i for i, hint in enumerate(hinted) if hint.get_id() in core), 0)
            del hinted[blamed]

    @cached_property
    def _z3(self) -> z3.Solver:
        from graphopt.fuzz.rules.smt import solver

        return solver(self.predicates, self.ranges)


def _equations(predicate: Predicate) -> list[tuple[_Side, _Side]]:
    """Both sides of each equation in a predicate; ``a % b == 0`` gives the dividend and the divisor."""
    parts = predicate.options if isinstance(predicate, AnyOf) else (predicate,)
    return [_sides(p) for p in parts if p.relation == "==" or p.relation == ">="]


_Side = tuple[Any, bool]


def _sides(part: Comparison) -> tuple[_Side, _Side]:
    left: Expression = part.left
    if part.relation == "==" and isinstance(left, Operation) and left.operator == "%":
        single = isinstance(left.left, Symbol)
        return (evaluator(left.left), single), (evaluator(left.right), True)
    return (evaluator(part.left), False), (evaluator(part.right), False)


def _roots(name: str, values: dict[str, int], left: _Side, right: _Side) -> list[int]:
    """Values of a symbol that make two sides equal, if they are linear in it; multiples of a divisor."""
    (left_of, dividend), (right_of, divisor) = left, right
    if divisor:
        step = right_of(values)
        return [step * i for i in (1, 2, 3, 4, 5, 6, 8, 12)] if dividend and step > 0 else []
    at_zero, at_one = {**values, name: 0}, {**values, name: 1}
    offset = left_of(at_zero) - right_of(at_zero)
    slope = left_of(at_one) - right_of(at_one) - offset
    return [-offset // slope] if slope and offset % slope == 0 else []
