"""Values of integer expressions for many threads and iterations at once, as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm import ir
from tvm.ir.prim import expr as prim

from graphopt.codegen.rewrite import Expr, op_name


class Unknown(Exception):
    """The value depends on memory or on a variable that has none."""


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    prim.Add: np.add,
    prim.Sub: np.subtract,
    prim.Mul: np.multiply,
    prim.FloorDiv: np.floor_divide,
    prim.FloorMod: np.mod,
    prim.Div: lambda a, b: np.trunc(np.divide(a, b)).astype(np.int64),
    prim.Mod: np.fmod,
    prim.Min: np.minimum,
    prim.Max: np.maximum,
    prim.EQ: np.equal,
    prim.NE: np.not_equal,
    prim.LT: np.less,
    prim.LE: np.less_equal,
    prim.GT: np.greater,
    prim.GE: np.greater_equal,
    prim.LShift: np.left_shift,
    prim.RShift: np.right_shift,
    prim.BitwiseAnd: np.bitwise_and,
    prim.BitwiseOr: np.bitwise_or,
    prim.BitwiseXor: np.bitwise_xor,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "prim.bitwise_and": np.bitwise_and,
    "prim.bitwise_or": np.bitwise_or,
    "prim.bitwise_xor": np.bitwise_xor,
    "prim.shift_left": np.left_shift,
    "prim.shift_right": np.right_shift,
    "prim.if_then_else": np.where,
    "prim.likely": lambda a: a,
}


def evaluate(expr: Expr, values: Mapping[ir.Var, Any]) -> Any:
    """The value of an integer or boolean expression, an array where a variable is one.

    Args:
        values: numbers, or int64 arrays that broadcast with one another.

    Raises:
        Unknown: it reads memory, or a variable without a value, or calls something else.
    """
    if isinstance(expr, prim.IntImm):
        return int(expr)
    if isinstance(expr, ir.Var):
        if expr not in values:
            raise Unknown(str(expr.name))
        return values[expr]
    kind = type(expr)
    if kind in _BINARY:
        return _BINARY[kind](evaluate(expr.a, values), evaluate(expr.b, values))
    if kind in (prim.And, prim.Or):
        return _logical(expr, values)
    if kind is prim.Not:
        return np.logical_not(evaluate(expr.a, values))
    if kind is prim.Cast:
        return evaluate(expr.value, values)
    if kind is prim.Select:
        chosen = (evaluate(e, values) for e in (expr.condition, expr.true_value, expr.false_value))
        return np.where(*chosen)
    name = op_name(expr)
    if name in _CALLS:
        return _CALLS[name](*(evaluate(a, values) for a in expr.args))
    raise Unknown(name or kind.__name__)


def _logical(expr: Any, values: Mapping[ir.Var, Any]) -> Any:
    return (np.logical_and if isinstance(expr, prim.And) else np.logical_or)(
        evaluate(expr.a, values), evaluate(expr.b, values)
    )


def possible(condition: Expr, values: Mapping[ir.Var, Any]) -> Any:
    """Where a condition may hold: parts that are not known count as true.

    Negations of what is not known count as true as well.
    """
    try:
        return evaluate(condition, values)
    except Unknown:
        if isinstance(condition, prim.And):
            return np.logical_and(possible(condition.a, values), possible(condition.b, values))
        return True
