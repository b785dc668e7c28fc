"""Integer expressions over symbols, and predicates on them: what rules are written in.

The text form is a subset of Python's: names, integers, ``+ - * // %``, ``min(a, b)``, ``max(a, b)``,
the comparisons ``== >= >`` and ``or``.  It is read by a parser of its own over Python's syntax tree;
nothing is evaluated to read it.

Division and remainder are total: both are 0 where the divisor is not positive.  No rule relies on
that, but counterexamples must mean the same to every evaluator.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.errors import InputError

if TYPE_CHECKING:
    import sympy

MAX_LENGTH = 4000
"""Of a text, in characters: far above any rule, and below what could exhaust Python's parser."""

Evaluator = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size of an input or an integer attribute."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Constant:
    """A number."""

    value: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Operation:
    """``left operator right``, with one of ``+ - * // % min max``."""

    operator: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        if self.operator in ("min", "max"):
            return f"{self.operator}({self.left}, {self.right})"
        rank = _RANK[self.operator]
        left = _wrapped(self.left, rank)
        right = _wrapped(self.right, rank if self.operator == "+" else rank + 1)
        return f"{left} {self.operator} {right}" if rank == 1 else f"{left}{self.operator}{right}"


Expression = Symbol | Constant | Operation


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left relation right``, with one of ``== >= >``."""

    relation: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the comparisons holds."""

    options: tuple[Comparison, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.options))


Predicate = Comparison | AnyOf

_RANK = {"+": 1, "-": 1, "*": 2, "//": 2, "%": 2}


def _wrapped(expression: Expression, rank: int) -> str:
    needs = isinstance(expression, Operation) and _RANK.get(expression.operator, 9) < rank
    return f"({expression})" if needs else str(expression)


def size(term: Expression | Predicate) -> int:
    """The number of operators in it."""
    match term:
        case Operation(_, left, right):
            return 1 + size(left) + size(right)
        case Comparison(_, left, right):
            return size(left) + size(right)
        case AnyOf(options):
            return sum(map(size, options)) + len(options) - 1
    return 0


def symbols(term: Expression | Predicate) -> dict[str, None]:
    """Names of the symbols in it, in order of appearance."""
    match term:
        case Symbol(name):
            return {name: None}
        case Operation(_, left, right) | Comparison(_, left, right):
            return symbols(left) | symbols(right)
        case AnyOf(options):
            found: dict[str, None] = {}
            for option in options:
                found |= symbols(option)
            return found
    return {}


def floor_divide(left: Any, right: Any) -> Any:
    """``left // right`` for numbers or arrays; 0 where ``right`` is not positive."""
    if isinstance(left, int) and isinstance(right, int):
        return left // right if right > 0 else 0
    import numpy as np

    return np.where(np.asarray(right) > 0, left // np.maximum(right, 1), 0)


def remainder(left: Any, right: Any) -> Any:
    """``left % right`` for numbers or arrays; 0 where ``right`` is not positive."""
    if isinstance(left, int) and isinstance(right, int):
        return left % right if right > 0 else 0
    import numpy as np

    return np.where(np.asarray(right) > 0, left % np.maximum(right, 1), 0)


def _extreme(largest: bool) -> Callable[[Any, Any], Any]:
    def evaluate(left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            return max(left, right) if largest else min(left, right)
        import numpy as np

        return (np.maximum if largest else np.minimum)(left, right)

    return evaluate


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "//": floor_divide,
    "%": remainder,
    "min": _extreme(False),
    "max": _extreme(True),
}
RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    ">=": lambda left, right: left >= right,
    ">": lambda left, right: left > right,
}


def evaluator(term: Expression | Predicate) -> Evaluator:
    """A function from values of the symbols to that of the term.

    Values are all numbers, or numbers and integer arrays of one length, which give an array.
    """
    match term:
        case Symbol(name):
            return lambda values: values[name]
        case Constant(value):
            return lambda values: value
        case Operation(operator, left, right):
            return _binary(OPERATORS[operator], evaluator(left), evaluator(right))
        case Comparison(relation, left, right):
            return _binary(RELATIONS[relation], evaluator(left), evaluator(right))
        case AnyOf(options):
            parts = [evaluator(option) for option in options]

            def any_of(values: Mapping[str, Any]) -> Any:
                found = parts[0](values)
                for part in parts[1:]:
                    found = found | part(values)
                return found

            return any_of
    raise TypeError(f"no term: {term!r}")


def _binary(function: Callable[[Any, Any], Any], left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda values: function(left(values), right(values))


def parse_expression(text: str) -> Expression:
    """The expression that a text denotes.

    Raises:
        InputError: GO-3012, the text is no expression.
    """
    return _expression(_tree(text), text)


def parse_predicate(text: str) -> Predicate:
    """The predicate that a text denotes.

    Raises:
        InputError: GO-3012, the text is no predicate.
    """
    tree = _tree(text)
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or):
        return AnyOf(tuple(_comparison(value, text) for value in tree.values))
    return _comparison(tree, text)


_AST_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%"}
_AST_RELATIONS: dict[type[ast.cmpop], str] = {ast.Eq: "==", ast.GtE: ">=", ast.Gt: ">"}


def _malformed(text: str) -> InputError:
    return InputError(f"not an expression of rules: {text[:80]!r}", code="GO-3012")


def _tree(text: str) -> ast.expr:
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        raise _malformed(str(text))
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _malformed(text) from None


def _comparison(tree: ast.expr, text: str) -> Comparison:
    if isinstance(tree, ast.Compare) and len(tree.ops) == 1 and type(tree.ops[0]) in _AST_RELATIONS:
        relation = _AST_RELATIONS[type(tree.ops[0])]
        return Comparison(relation, _expression(tree.left, text), _expression(tree.comparators[0], text))
    raise _malformed(text)


def _expression(tree: ast.expr, text: str) -> Expression:
    match tree:
        case ast.Name(id=name):
            return Symbol(name)
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return Constant(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return Constant(-value)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _AST_OPERATORS:
            name = _AST_OPERATORS[type(operator)]
            return Operation(name, _expression(left, text), _expression(right, text))
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[left, right], keywords=[]):
            return Operation(name, _expression(left, text), _expression(right, text))
    raise _malformed(text)


def to_sympy(expression: Expression) -> sympy.Expr:
    """The expression in sympy, over integer symbols: for simplification and for comparing forms."""
    import sympy

    match expression:
        case Symbol(name):
            return sympy.Symbol(name, integer=True)
        case Constant(value):
            return sympy.Integer(value)
        case Operation(operator, left, right):
            a, b = to_sympy(left), to_sympy(right)
            match operator:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "//":
                    return sympy.floor(a / b)
                case "%":
                    return sympy.Mod(a, b)
                case "min":
                    return sympy.Min(a, b)
                case "max":
                    return sympy.Max(a, b)
    raise TypeError(f"no expression: {expression!r}")
