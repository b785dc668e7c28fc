"""Bottom-up enumeration of expressions, one of each behaviour.

Expressions that have the same values in all rows are one (observational equivalence; Udupa et al.,
"TRANSIT", PLDI 2013), so that the number of expressions of up to two operators stays in the thousands.
Sums, differences and products of two of those, and their quotients and extremes, are looked up from
the target backwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.fuzz.rules.expressions import (
    OPERATORS,
    Constant,
    Expression,
    Operation,
    Symbol,
    evaluator,
    size,
)

ROWS = 48
"""Rows that tell behaviours apart; what fits them is tried on all."""
MAX_SYMBOLS = 5
MAX_BEHAVIOURS = 12_000
_COMMUTATIVE = {"+", "*", "min", "max"}


@dataclass
class _Level:
    """Behaviours of one number of operators: values, one row each, and how each was made."""

    values: np.ndarray
    made: list[Expression]


def enumerated(
    depends: Sequence[str], columns: Mapping[str, np.ndarray], target: np.ndarray, constants: Sequence[int]
) -> list[Expression]:
    """Expressions of up to five operators that give the target in every row, smallest first.

    Args:
        depends: symbols that may occur; more than :data:`MAX_SYMBOLS` find nothing.
        columns: values of the symbols.
        target: what is to be explained.
        constants: numbers that may occur beside 1 and 2.
    """
    if len(depends) > MAX_SYMBOLS:
        return []
    rows = _distinguishing_rows(target)
    search = _Search([(Symbol(n), columns[n][rows]) for n in depends], {1, 2, *constants}, target[rows])
    fitting = [e for e in search.run() if np.array_equal(_on(e, columns, target), target)]
    return sorted(fitting, key=lambda e: (size(e), str(e)))


def _on(expression: Expression, columns: Mapping[str, np.ndarray], target: np.ndarray) -> np.ndarray:
    return np.broadcast_to(evaluator(expression)(columns), target.shape)


def _distinguishing_rows(target: np.ndarray) -> np.ndarray:
    """Some of the rows, those with rare outputs among them."""
    _, first = np.unique(target, return_index=True)
    spread = np.linspace(0, len(target) - 1, ROWS).astype(int)
    return np.unique(np.concatenate([first[:ROWS], spread]))


class _Search:
    def __init__(
        self, leaves: list[tuple[Symbol, np.ndarray]], constants: set[int], target: np.ndarray
    ) -> None:
        self.target = target.astype(np.int64)
        generator = np.random.default_rng(0)
        self.weights = generator.integers(1, 1 << 62, size=len(target), dtype=np.int64) | 1
        self.seen: dict[int, tuple[int, int]] = {}
        made: list[Expression] = [*(leaf for leaf, _ in leaves), *(Constant(c) for c in sorted(constants))]
        values = [v.astype(np.int64) for _, v in leaves]
        values += [np.full(len(target), c, dtype=np.int64) for c in sorted(constants)]
        self.levels = [_Level(np.zeros((0, len(target)), dtype=np.int64), [])]
        self._extend(np.stack(values), made, self.levels[0], 0)

    def _keys(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return values @ self.weights

    def _extend(self, values: np.ndarray, made: Sequence[Expression], level: _Level, index: int) -> None:
        keep: list[int] = []
        for row, key in enumerate(self._keys(values).tolist()):
            if key not in self.seen and len(self.seen) < MAX_BEHAVIOURS:
                self.seen[key] = (index, len(level.made) + len(keep))
                keep.append(row)
        level.values = np.concatenate([level.values, values[keep]])
        level.made += [made[row] for row in keep]

    def run(self) -> list[Expression]:
        for count in (1, 2):
            if (found := self._look()) and count > 1:
                return found
            level = _Level(np.zeros((0, len(self.target)), dtype=np.int64), [])
            self.levels.append(level)
            for left in range(count):
                self._combine(self.levels[left], self.levels[count - 1 - left], level, count)
        return self._look() or self._backwards()

    def _combine(self, left: _Level, right: _Level, into: _Level, index: int) -> None:
        for operator, function in OPERATORS.items():
            for row, expression in enumerate(left.made):
                if isinstance(expression, Constant) and operator in ("//", "%", "-"):
                    continue
                values = np.asarray(function(left.values[row][None, :], right.values))
                if operator in ("//", "%"):
                    usable = (right.values > 0).all(axis=1)
                else:
                    usable = np.ones(len(right.made), dtype=bool)
                chosen = np.flatnonzero(usable)
                if len(chosen):
                    made = [Operation(operator, expression, right.made[i]) for i in chosen]
                    self._extend(values[chosen], made, into, index)

    def _find(self, values: np.ndarray) -> list[tuple[int, Expression]]:
        """Rows of values that are a known behaviour, with the expression of it."""
        found = []
        for row, key in enumerate(self._keys(values).tolist()):
            if key in self.seen:
                level, at = self.seen[key]
                if np.array_equal(self.levels[level].values[at], values[row]):
                    found.append((row, self.levels[level].made[at]))
        return found

    def _look(self) -> list[Expression]:
        return [e for _, e in self._find(self.target[None, :])]

    def _backwards(self) -> list[Expression]:
        values = np.concatenate([level.values for level in self.levels])
        made = [e for level in self.levels for e in level.made]
        target = self.target[None, :]
        found: list[Expression] = [Operation("+", e, made[i]) for i, e in self._find(target - values)]
        found += [Operation("-", e, made[i]) for i, e in self._find(target + values)]
        divides = np.flatnonzero((values > 0).all(axis=1) & (target % np.maximum(values, 1) == 0).all(axis=1))
        found += [
            Operation("*", e, made[divides[i]])
            for i, e in self._find(target // np.maximum(values[divides], 1))
        ]
        return found or self._quotients(values, made)

    def _quotients(self, values: np.ndarray, made: list[Expression]) -> list[Expression]:
        """Quotients and extremes of larger by smaller expressions, and one more or less than those."""
        found: list[Expression] = []
        for level in self.levels[:2]:
            for row, expression in enumerate(level.made):
                right = level.values[row][None, :]
                for operator in ("//", "min", "max"):
                    if operator == "//" and (right <= 0).any():
                        continue
                    result = np.asarray(OPERATORS[operator](values, right))
                    for offset in (0, 1, -1):
                        for i in np.flatnonzero((result + offset == self.target).all(axis=1)):
                            made_here: Expression = Operation(operator, made[i], expression)
                            if offset:
                                made_here = Operation("+" if offset > 0 else "-", made_here, Constant(1))
                            found.append(made_here)
                if len(found) >= 8:
                    return found
        return found
