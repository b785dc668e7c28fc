"""Constraint systems: what is solved is a solution, and what cannot be is not."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from graphopt.fuzz.rules import smt
from graphopt.fuzz.rules.expressions import evaluator, parse_expression, parse_predicate
from graphopt.fuzz.rules.solving import ConstraintSystem, negation

CONVOLUTION = [
    "c == i*g",
    "o%g == 0",
    "s >= 1",
    "p >= 0",
    "(x + 2*p - k)//s + 1 >= 1",
]
RANGES = {name: (1, 64) for name in ("c", "i", "o", "x", "k", "g")} | {"s": (-2, 16), "p": (-2, 16)}


def convolution() -> ConstraintSystem:
    return ConstraintSystem(RANGES, [parse_predicate(text) for text in CONVOLUTION])


def start(rng: random.Random) -> dict[str, int]:
    return {name: rng.randint(1, 24) for name in RANGES}


def test_solutions_hold_and_differ() -> None:
    system, rng = convolution(), random.Random(0)
    found = [system.solve(rng, start(rng)) for _ in range(100)]
    solved = [values for values in found if values is not None]
    assert len(solved) >= 95
    assert all(system.holds(values) for values in solved)
    assert len({tuple(values.values()) for values in solved}) > 90
    assert len({values["g"] for values in solved}) > 5


def test_given_values_are_kept() -> None:
    system, rng = convolution(), random.Random(0)
    for _ in range(20):
        found = system.solve(rng, start(rng) | {"c": 12, "x": 17}, {"c", "x"})
        assert found is not None and (found["c"], found["x"]) == (12, 17) and system.holds(found)


def test_solving_takes_milliseconds() -> None:
    system, rng = convolution(), random.Random(0)
    began = time.process_time()
    for _ in range(50):
        system.solve(rng, start(rng))
    assert (time.process_time() - began) / 50 < 0.02


def test_contradictions_have_no_solution() -> None:
    system = ConstraintSystem(
        {"a": (1, 9), "b": (1, 9)}, [parse_predicate("a > b"), parse_predicate("b > a")]
    )
    assert system.solve(random.Random(0), {"a": 1, "b": 1}) is None
    assert system.prove(random.Random(0), {}, {}) is None


def test_z3_finds_what_the_search_cannot() -> None:
    """A solution far from every start."""
    system = ConstraintSystem(
        {"a": (1, 4000), "b": (1, 4000)}, [parse_predicate("a == 2*b + 1"), parse_predicate("a + b == 3001")]
    )
    assert system.prove(random.Random(0), {}, {"a": 3}) == {"a": 2001, "b": 1000}
    assert system.prove(random.Random(0), {"a": 3}, {}) is None


def test_whole_columns_are_judged_as_single_values_are() -> None:
    system, rng = convolution(), random.Random(3)
    rows = [start(rng) for _ in range(300)] + [v for _ in range(50) if (v := system.solve(rng, start(rng)))]
    truth = system.truth({name: np.array([row[name] for row in rows]) for name in RANGES}, len(rows))
    assert truth.tolist() == [system.holds(row) for row in rows]
    assert 0 < truth.sum() < len(rows)


@pytest.mark.parametrize(
    "text", ["a == b", "a >= b", "a > b", "a == b or a == 1", "a%2 == 0 or b > a or b == 3"]
)
def test_a_negation_holds_where_the_predicate_does_not(text: str) -> None:
    predicate = parse_predicate(text)
    against = [evaluator(p) for p in negation(predicate)]
    for a in range(1, 6):
        for b in range(1, 6):
            values = {"a": a, "b": b}
            assert bool(evaluator(predicate)(values)) != all(test(values) for test in against)


def test_implied_predicates_are_dropped() -> None:
    predicates = [parse_predicate(t) for t in ("a == b", "b == c", "a == c", "a >= 1", "c > 3")]
    kept = smt.essential(predicates, dict.fromkeys("abc", (1, 50)))
    assert [str(p) for p in kept] == ["a == b", "b == c", "c > 3"]


def test_z3_tells_expressions_apart_and_equal_ones_not() -> None:
    ranges, none = dict.fromkeys("ab", (1, 50)), ()
    found = smt.distinguishing(parse_expression("max(a, b)"), parse_expression("a"), none, ranges)
    assert found is not None and found["b"] > found["a"]
    same = smt.distinguishing(
        parse_expression("max(a, b)"), parse_expression("a + b - min(a, b)"), none, ranges
    )
    assert same is None
