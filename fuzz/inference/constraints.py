"""Input constraints: predicates that every valid call satisfies and some invalid call violates.

Candidates are generated from families that operators are known to need: equal and broadcast sizes,
products and sums of sizes, divisibility, order, bounds, and sizes of results that have to be positive.
A greedy cover then takes the fewest that reject every invalid call, simple ones first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.fuzz.inference.shapes import ONE, TWO, add, multiply, subtract
from graphopt.fuzz.rules.expressions import (
    AnyOf,
    Comparison,
    Constant,
    Expression,
    Operation,
    Predicate,
    Symbol,
    evaluator,
)

MAX_TRIPLES = 14
"""Symbols above which relations between three are looked for among attributes and first symbols only."""


@dataclass(frozen=True)
class Candidate:
    """A predicate that holds on all valid calls, and how plausible it is before any is rejected."""

    predicate: Predicate
    weight: float


@dataclass(frozen=True)
class Layout:
    """What belongs together: the sizes of each tensor, and the numbers of each list among the attributes."""

    tensors: tuple[tuple[str, ...], ...]
    lists: tuple[tuple[str, ...], ...]

    @property
    def sizes(self) -> frozenset[str]:
        return frozenset(name for tensor in self.tensors for name in tensor)


def equal(a: Expression, b: Expression) -> Comparison:
    """``a == b``."""
    return Comparison("==", a, b)


def at_least(a: Expression, b: Expression) -> Comparison:
    """``a >= b``."""
    return Comparison(">=", a, b)


def divisible(a: Expression, b: Expression) -> Comparison:
    """``a % b == 0``."""
    return equal(Operation("%", a, b), Constant(0))


def product(names: Sequence[str]) -> Expression:
    """The product of symbols; 1 for none."""
    result: Expression = ONE
    for name in names:
        result = multiply(result, Symbol(name))
    return result


def total(names: Sequence[str]) -> Expression:
    """The sum of symbols."""
    result: Expression = Constant(0)
    for name in names:
        result = add(result, Symbol(name))
    return result


def _offset(expression: Expression, offset: int) -> Expression:
    return add(expression, Constant(offset)) if offset >= 0 else subtract(expression, Constant(-offset))


def candidates(
    names: Sequence[str],
    columns: Mapping[str, np.ndarray],
    layout: Layout,
    shapes: Iterable[Expression],
    floors: Mapping[str, int],
) -> list[Candidate]:
    """The predicates of all families that hold in every row.

    Args:
        names: the symbols.
        columns: their values in valid calls.
        layout: which symbols belong together.
        shapes: rules of output sizes, which are positive.
        floors: the least value of each symbol that is ever drawn.
    """
    found: dict[Predicate, float] = {}
    for predicate, weight in itertools.chain(
        _single(names, columns, layout, floors),
        _pairs(names, columns, layout),
        _grouped(layout),
        _positive(shapes),
        _triples(_leading(names, columns, layout), columns, layout),
    ):
        if predicate not in found and bool(np.all(evaluator(predicate)(columns))):
            found[predicate] = weight
    return [Candidate(predicate, weight) for predicate, weight in found.items()]


def _single(
    names: Sequence[str], columns: Mapping[str, np.ndarray], layout: Layout, floors: Mapping[str, int]
) -> Iterator[tuple[Predicate, float]]:
    for name in names:
        values, symbol = columns[name], Symbol(name)
        low, high = int(values.min()), int(values.max())
        if low == high:
            yield equal(symbol, Constant(low)), 2.0
        if low > floors[name]:
            yield at_least(symbol, Constant(low)), 1.6
            yield from (
                (at_least(symbol, Constant(bound)), 1.6) for bound in (0, 1) if low > bound > floors[name]
            )
        if high <= 16:
            yield at_least(Constant(high), symbol), 0.6
        for step in range(2, 9):
            if name in layout.sizes:
                yield divisible(symbol, Constant(step)), 1.4


def _pairs(
    names: Sequence[str], columns: Mapping[str, np.ndarray], layout: Layout
) -> Iterator[tuple[Predicate, float]]:
    for first, second in itertools.combinations(names, 2):
        x, y, a, b = columns[first], columns[second], Symbol(first), Symbol(second)
        same = x == y
        if same.all():
            yield equal(a, b), 3.0
            continue
        if (same | (x == 1) | (y == 1)).all():
            yield AnyOf((equal(a, b), equal(a, ONE))), 2.1
            yield AnyOf((equal(a, b), equal(b, ONE))), 2.1
            yield AnyOf((equal(a, b), equal(a, ONE), equal(b, ONE))), 2.3
        lowest = int((x + y).min())
        if -2 <= lowest <= 2:
            yield at_least(add(a, b), Constant(lowest)), 0.8
    for first, second in itertools.permutations(names, 2):
        x, y, a, b = columns[first], columns[second], Symbol(first), Symbol(second)
        gap = int((x - y).min())
        if -2 <= gap <= 2:
            yield at_least(_offset(a, -gap) if gap < 0 else a, _offset(b, gap) if gap > 0 else b), 1.0
        for factor in (2, 3, 4):
            gap = int((x - factor * y).min())
            if -1 <= gap <= 1:
                yield at_least(_offset(a, -gap), multiply(Constant(factor), b)), 0.9
            difference = x - factor * y
            if (difference == difference[0]).all() and abs(int(difference[0])) <= 2:
                yield equal(a, _offset(multiply(Constant(factor), b), int(difference[0]))), 2.0
        difference = x - y
        if (difference == difference[0]).all() and 0 < int(difference[0]) <= 8:
            yield equal(a, _offset(b, int(difference[0]))), 2.5
        if (y > 0).all():
            pieces = -(-x // y)
            if (pieces == pieces[0]).all() and pieces[0] > 1:
                last = subtract(add(a, b), ONE)
                yield equal(Operation("//", last, b), Constant(int(pieces[0]))), 2.2
        if (y > 0).all() and (x % np.maximum(y, 1) == 0).all():
            yield divisible(a, b), 1.8
        if (y > 0).all() and (x % np.maximum(y * y, 1) == 0).all():
            yield divisible(a, multiply(b, b)), 1.7


def _grouped(layout: Layout) -> Iterator[tuple[Predicate, float]]:
    """Relations of a whole tensor or list with another, as reshapes and splits need them."""
    for tensor, numbers in itertools.product(layout.tensors, layout.lists):
        if tensor and numbers:
            yield equal(product(tensor), product(numbers)), 2.5
            yield divisible(product(tensor), product(numbers)), 2.0
            for name in tensor:
                yield equal(total(numbers), Symbol(name)), 2.4
                yield equal(product(numbers), Symbol(name)), 2.4
                yield divisible(Symbol(name), product(numbers)), 1.9
    for first, second in itertools.combinations([t for t in layout.tensors if t], 2):
        yield equal(product(first), product(second)), 2.0


def _positive(shapes: Iterable[Expression]) -> Iterator[tuple[Predicate, float]]:
    """Sizes of results are positive; so are what is divided in them, and what else they consist of."""
    for shape in shapes:
        yield at_least(shape, ONE), 2.0
        for part in _parts(shape):
            yield at_least(part, Constant(0)), 1.5
            yield at_least(part, ONE), 1.4


def _parts(shape: Expression) -> Iterator[Expression]:
    if isinstance(shape, Operation):
        if shape.operator == "//":
            yield shape.left
            yield Operation("+", shape.left, ONE)
        yield from _parts(shape.left)
        yield from _parts(shape.right)


def _leading(names: Sequence[str], columns: Mapping[str, np.ndarray], layout: Layout) -> list[str]:
    """Symbols for relations of three: one of each set of equal columns, and none that is constant."""
    seen: dict[bytes, str] = {}
    for name in names:
        if columns[name].min() != columns[name].max():
            seen.setdefault(columns[name].tobytes(), name)
    leading = list(seen.values())
    if len(leading) <= MAX_TRIPLES:
        return leading
    first = [name for name in leading if name not in layout.sizes or name.endswith(("_0", "_1"))]
    return first[: MAX_TRIPLES + 6]


def _triples(
    names: Sequence[str], columns: Mapping[str, np.ndarray], layout: Layout
) -> Iterator[tuple[Predicate, float]]:
    if len(names) < 3:
        return
    for first, second in itertools.combinations(names, 2):
        x, y, a, b = columns[first], columns[second], Symbol(first), Symbol(second)
        times, plus = x * y, x + y
        for third in names:
            if third in (first, second):
                continue
            z, c = columns[third], Symbol(third)
            if (times == z).all():
                yield equal(c, multiply(a, b)), 2.6
            if (plus == z).all():
                yield equal(c, add(a, b)), 2.6
            if (times > 0).all() and (z % np.maximum(times, 1) == 0).all():
                yield divisible(c, multiply(a, b)), 1.8
            if (z > 0).all() and (times % np.maximum(z, 1) == 0).all():
                yield divisible(multiply(a, b), c), 1.5
            gap = int((plus - z).min())
            if -1 <= gap <= 1:
                yield at_least(_offset(add(a, b), -gap), c), 0.6
            gap = int((z - plus).min())
            if -1 <= gap <= 1:
                yield at_least(_offset(c, -gap), add(a, b)), 0.9
            if third not in layout.sizes and (np.maximum(x, y) > z).all():
                yield Comparison(">", Operation("max", a, b), c), 1.0
            for one, other, left, right in ((x, y, a, b), (y, x, b, a)):
                if (other * (one - 1) + 1 >= 2 * z).all() and third not in layout.sizes:
                    reach = add(multiply(right, subtract(left, ONE)), ONE)
                    yield at_least(reach, multiply(TWO, c)), 0.9


def cover(found: Sequence[Candidate], columns: Mapping[str, np.ndarray], count: int) -> list[Predicate]:
    """The fewest candidates, greedily, that reject as many invalid calls as all of them do.

    Args:
        found: candidates.
        columns: values of the symbols in ``count`` invalid calls.
    """
    if not count:
        return []
    rejected, useful = [], []
    for candidate in found:
        truth = np.broadcast_to(np.asarray(evaluator(candidate.predicate)(columns), dtype=bool), (count,))
        if not truth.all():
            rejected.append(~truth)
            useful.append(candidate)
    if not useful:
        return []
    matrix = np.stack(rejected)
    weights = np.array([candidate.weight for candidate in useful])
    left = np.ones(count, dtype=bool)
    chosen: list[Predicate] = []
    while True:
        gain = matrix[:, left].sum(axis=1) * weights
        best = int(gain.argmax())
        if gain[best] <= 0:
            return chosen
        chosen.append(useful[best].predicate)
        left &= ~matrix[best]
