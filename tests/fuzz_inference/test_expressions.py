"""Expressions and predicates: text, values, Z3 and sympy say the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sympy
import z3

from graphopt.errors import InputError
from graphopt.fuzz.rules import smt
from graphopt.fuzz.rules.expressions import (
    AnyOf,
    Comparison,
    Constant,
    Expression,
    Operation,
    Symbol,
    evaluator,
    parse_expression,
    parse_predicate,
    size,
    symbols,
    to_sympy,
)

WINDOW = "(x + 2*p - d*(k - 1) - 1)//s + 1"


def drawn(rng: random.Random, depth: int) -> Expression:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([Symbol("a"), Symbol("b"), Constant(rng.randrange(-3, 6))])
    operator = rng.choice(["+", "-", "*", "//", "%", "min", "max"])
    return Operation(operator, drawn(rng, depth - 1), drawn(rng, depth - 1))


def test_the_text_of_any_expression_reads_as_the_same_function() -> None:
    rng = random.Random(0)
    for _ in range(200):
        expression = drawn(rng, 3)
        again = parse_expression(str(expression))
        for a, b in ((1, 1), (7, 3), (-4, 2), (5, -2), (0, 0)):
            values = {"a": a, "b": b}
            assert evaluator(again)(values) == evaluator(expression)(values), str(expression)


def test_numbers_arrays_and_z3_agree() -> None:
    rng = random.Random(1)
    a, b = np.array([1, 7, -4, 5, 0, 12]), np.array([1, 3, 2, -2, 0, 5])
    for _ in range(60):
        expression = drawn(rng, 3)
        column = np.broadcast_to(evaluator(expression)({"a": a, "b": b}), a.shape)
        for x, y, found in zip(a.tolist(), b.tolist(), column.tolist(), strict=True):
            assert evaluator(expression)({"a": x, "b": y}) == found
            term = z3.substitute(
                smt.term(expression), (z3.Int("a"), z3.IntVal(x)), (z3.Int("b"), z3.IntVal(y))
            )
            assert z3.simplify(term).as_long() == found, str(expression)


def test_a_window_has_the_size_that_torch_documents() -> None:
    expression = parse_expression(WINDOW)
    assert str(expression) == WINDOW
    assert (size(expression), list(symbols(expression))) == (8, ["x", "p", "d", "k", "s"])
    assert evaluator(expression)({"x": 32, "p": 1, "d": 1, "k": 3, "s": 2}) == 16


def test_sympy_sees_that_two_forms_are_equal() -> None:
    left, right = parse_expression("(a - 1)*s + (k - 1) + 1"), parse_expression("a*s - s + k")
    assert sympy.expand(to_sympy(left) - to_sympy(right)) == 0
    assert sympy.expand(to_sympy(left) - to_sympy(parse_expression("a*s + k"))) != 0


def test_predicates_read_and_hold() -> None:
    broadcast = parse_predicate("a == b or a == 1 or b == 1")
    assert isinstance(broadcast, AnyOf)
    assert str(broadcast) == "a == b or a == 1 or b == 1"
    assert [bool(evaluator(broadcast)({"a": a, "b": b})) for a, b in ((4, 4), (1, 3), (3, 1), (2, 3))] == [
        True,
        True,
        True,
        False,
    ]
    assert parse_predicate("a%2 == 0") == Comparison(
        "==", Operation("%", Symbol("a"), Constant(2)), Constant(0)
    )


def test_dividing_by_what_is_not_positive_gives_zero_everywhere() -> None:
    for text in ("a//b", "a%b"):
        for b in (0, -2):
            assert evaluator(parse_expression(text))({"a": 7, "b": b}) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a/b",
        "a**2",
        "f(a)",
        "min(a)",
        "a.b",
        "a[0]",
        "1.5",
        "True",
        "a if b else c",
        "(" * 3000,
        "a<b",
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_expression(text)
    assert caught.value.code == "GO-3012"


@pytest.mark.parametrize(
    "text", ["a", "a < b", "a == b == c", "a and b", "not a", "a == b or c", "__import__('os')"]
)
def test_what_is_no_predicate_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_predicate(text)
    assert caught.value.code == "GO-3012"
