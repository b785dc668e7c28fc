"""Changing one place of a lowered function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.lowering import LoweredFunction
from graphopt.codegen.rewrite import rewrite, sequence


class NothingToChange(Exception):
    """The kernel has no place of the kind that a mutation changes."""


StatementEdit = Callable[[Any], list[Any] | None]
"""The statements to put in the place of one; None leaves it, and what is inside is looked at."""
ExpressionEdit = Callable[[Any], Any | None]
"""The expression to put in the place of one; None leaves it, and its operands are looked at."""


def edit(
    func: LoweredFunction,
    *,
    stmt: StatementEdit | None = None,
    expr: ExpressionEdit | None = None,
    at: int = 0,
) -> LoweredFunction:
    """The function with the edit made at the match number ``at`` alone; -1 makes it at every match.

    Raises:
        NothingToChange: there are fewer matches.
    """
    return LoweredFunction(
        _Editor(stmt, expr, at).function(func.emitted), _Editor(stmt, expr, at).function(func.separate)
    )


class _Editor:
    def __init__(self, stmt: StatementEdit | None, expr: ExpressionEdit | None, at: int) -> None:
        self._stmt, self._expr, self._at = stmt, expr, at
        self._seen = 0

    def function(self, func: Any) -> Any:
        body = sequence(self._statements(func.body))
        if self._seen <= max(self._at, 0):
            raise NothingToChange
        return tirx.PrimFunc(func.params, body, attrs=func.attrs)

    def _chosen(self) -> bool:
        self._seen += 1
        return self._at in (-1, self._seen - 1)

    def _value(self, value: Any) -> Any:
        if self._expr is None:
            return value

        def replace(node: Any) -> Any | None:
            assert self._expr is not None
            new = self._expr(node)
            return new if new is not None and self._chosen() else None

        return rewrite(value, replace)

    def _statements(self, stmt: Any) -> list[Any]:
        if self._stmt is not None:
            new = self._stmt(stmt)
            if new is not None and self._chosen():
                return new
        return [self._inside(stmt)]

    def _inside(self, stmt: Any) -> Any:
        def body(inner: Any) -> Any:
            return sequence(self._statements(inner))

        if isinstance(stmt, tirx.SeqStmt):
            return sequence([s for part in stmt.seq for s in self._statements(part)])
        if isinstance(stmt, tirx.AttrStmt):
            return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body(stmt.body))
        if isinstance(stmt, tirx.For):
            low, extent = self._value(stmt.min), self._value(stmt.extent)
            return tirx.For(stmt.loop_var, low, extent, stmt.kind, body(stmt.body))
        if isinstance(stmt, tirx.While):
            return tirx.While(self._value(stmt.condition), body(stmt.body))
        if isinstance(stmt, tirx.IfThenElse):
            other = None if stmt.else_case is None else body(stmt.else_case)
            return tirx.IfThenElse(self._value(stmt.condition), body(stmt.then_case), other)
        if isinstance(stmt, tirx.BufferStore):
            value = self._value(stmt.value)
            return tirx.BufferStore(stmt.buffer, value, [self._value(i) for i in stmt.indices])
        if isinstance(stmt, tirx.Bind):
            return tirx.Bind(stmt.var, self._value(stmt.value))
        if isinstance(stmt, tirx.Evaluate):
            return tirx.Evaluate(self._value(stmt.value))
        return stmt


def number(value: int, like: Any) -> Any:
    """An integer constant of an expression's dtype."""
    return prim.IntImm(str(like.ty).partition("x")[0], value)


def moved(index: Any, by: int) -> Any:
    """An index, or the base of a vector of them, further by ``by``."""
    if isinstance(index, prim.Ramp):
        return prim.Ramp(index.base + number(by, index.base), index.stride, index.lanes)
    if isinstance(index, prim.Add) and int(index.ty.dtype.lanes) > 1:
        return prim.Add(moved(index.a, by), index.b)
    return index + number(by, index)
