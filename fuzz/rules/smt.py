"""Rules in Z3's integer arithmetic: implication, and assignments that satisfy or distinguish.

Every query has a budget of resources rather than of time, so that answers do not depend on the
machine's load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import z3

from graphopt.fuzz.rules.expressions import (
    AnyOf,
    Comparison,
    Constant,
    Expression,
    Operation,
    Predicate,
    Symbol,
)

RESOURCES = 400_000
"""Z3's own count of steps for one query; about a tenth of a second."""


def term(expression: Expression) -> z3.ArithRef:
    """An expression in Z3."""
    match expression:
        case Symbol(name):
            return z3.Int(name)
        case Constant(value):
            return z3.IntVal(value)
        case Operation(operator, left, right):
            a, b = term(left), term(right)
            match operator:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "//":
                    return a / b if _positive(right) else z3.If(b > 0, a / b, 0)
                case "%":
                    return a % b if _positive(right) else z3.If(b > 0, a % b, 0)
                case "min":
                    return z3.If(a <= b, a, b)
                case "max":
                    return z3.If(a >= b, a, b)
    raise TypeError(f"no expression: {expression!r}")


def formula(predicate: Predicate) -> z3.BoolRef:
    """A predicate in Z3."""
    match predicate:
        case AnyOf(options):
            return z3.Or([formula(option) for option in options])
        case Comparison(relation, left, right):
            a, b = term(left), term(right)
            return a == b if relation == "==" else a >= b if relation == ">=" else a > b
    raise TypeError(f"no predicate: {predicate!r}")


def _positive(divisor: Expression) -> bool:
    return isinstance(divisor, Constant) and divisor.value > 0


def solver(
    predicates: Sequence[Predicate], ranges: Mapping[str, tuple[int, int]], seed: int = 0
) -> z3.Solver:
    """A solver that knows the predicates and the inclusive range of each symbol."""
    made = z3.Solver()
    made.set("rlimit", RESOURCES)
    made.set("random_seed", seed % (1 << 30))
    for name, (low, high) in ranges.items():
        made.add(z3.Int(name) >= low, z3.Int(name) <= high)
    for predicate in predicates:
        made.add(formula(predicate))
    return made


def model_of(made: z3.Solver, names: Sequence[str], *extra: z3.BoolRef) -> dict[str, int] | None:
    """Values of the symbols that satisfy a solver and more; None where there are none, or none was found."""
    if made.check(*extra) != z3.sat:
        return None
    model = made.model()
    return {name: model.eval(z3.Int(name), model_completion=True).as_long() for name in names}


def implied(made: z3.Solver, predicate: Predicate) -> bool:
    """Whether a predicate provably follows from what the solver knows."""
    return made.check(z3.Not(formula(predicate))) == z3.unsat


def essential(predicates: Sequence[Predicate], ranges: Mapping[str, tuple[int, int]]) -> list[Predicate]:
    """The predicates without those that provably follow from the others; later ones go first."""
    kept = list(predicates)
    for predicate in reversed(predicates):
        others = [p for p in kept if p is not predicate]
        if implied(solver(others, ranges), predicate):
            kept = others
    return kept


def distinguishing(
    first: Expression,
    second: Expression,
    predicates: Sequence[Predicate],
    ranges: Mapping[str, tuple[int, int]],
) -> dict[str, int] | None:
    """Values that satisfy the predicates and on which two expressions differ, if Z3 finds any."""
    return model_of(solver(predicates, ranges), list(ranges), term(first) != term(second))
