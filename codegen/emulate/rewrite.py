"""Rewriting TensorIR expressions and statements from Python.

``tvm_ffi.structural_map`` renews the variables of what it maps, the free ones too, so a piece of a
function that still refers to the rest cannot go through it.  What is here keeps every node that a
rewrite leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim

Expr = Any
"""A primitive expression (TVM gives them no common public class)."""

_BINARY = (prim.BinaryOpExpr, prim.CmpExpr, prim.And, prim.Or)


def operands(expr: Expr) -> list[Expr]:
    """The direct operands of an expression, in evaluation order."""
    if isinstance(expr, ir.Var | prim.IntImm | prim.FloatImm | ir.StringImm):
        return []
    if isinstance(expr, _BINARY):
        return [expr.a, expr.b]
    if isinstance(expr, ir.Call):
        return list(expr.args)
    if isinstance(expr, ir.TensorLoad):
        return list(expr.indices)
    if isinstance(expr, prim.Cast | prim.Broadcast):
        return [expr.value]
    if isinstance(expr, prim.Ramp):
        return [expr.base, expr.stride]
    if isinstance(expr, prim.Not | prim.BitwiseNot):
        return [expr.a]
    if isinstance(expr, prim.Select):
        return [expr.condition, expr.true_value, expr.false_value]
    if isinstance(expr, prim.Shuffle):
        return [*expr.vectors, *expr.indices]
    if isinstance(expr, prim.Let):
        return [expr.value, expr.body]
    raise NotImplementedError(f"expression {type(expr).__name__}")


def with_operands(expr: Expr, new: Sequence[Expr]) -> Expr:
    """The same expression on other operands."""
    if isinstance(expr, _BINARY):
        return type(expr)(new[0], new[1])
    if isinstance(expr, ir.Call):
        return ir.Call(expr.op, list(new), expr.attrs, expr.ty_args, ret_ty=expr.ty)
    if isinstance(expr, ir.TensorLoad):
        return tirx.BufferLoad(expr.source, list(new))
    if isinstance(expr, prim.Cast):
        return prim.Cast(expr.ty, new[0])
    if isinstance(expr, prim.Broadcast):
        return prim.Broadcast(new[0], expr.lanes)
    if isinstance(expr, prim.Ramp):
        return prim.Ramp(new[0], new[1], expr.lanes)
    if isinstance(expr, prim.Not | prim.BitwiseNot):
        return type(expr)(new[0])
    if isinstance(expr, prim.Select):
        return prim.Select(new[0], new[1], new[2])
    if isinstance(expr, prim.Shuffle):
        vectors = len(expr.vectors)
        return prim.Shuffle(list(new[:vectors]), list(new[vectors:]))
    if isinstance(expr, prim.Let):
        return prim.Let(expr.var, new[0], new[1])
    raise NotImplementedError(f"expression {type(expr).__name__}")


def rewrite(expr: Expr, replace: Callable[[Expr], Expr | None]) -> Expr:
    """``expr`` with every node for which ``replace`` gives another one exchanged, outermost first.

    What ``replace`` returns is taken as it is; its operands are not visited.
    """
    new = replace(expr)
    if new is not None:
        return new
    before = operands(expr)
    after = [rewrite(o, replace) for o in before]
    if all(a is b or a.same_as(b) for a, b in zip(before, after, strict=True)):
        return expr
    return with_operands(expr, after)


def substitute(expr: Expr, values: Mapping[ir.Var, Expr]) -> Expr:
    """``expr`` with variables (buffers too) exchanged."""

    def replace(node: Expr) -> Expr | None:
        if isinstance(node, ir.Var):
            return values.get(node)
        if isinstance(node, ir.TensorLoad) and node.source in values:
            return tirx.BufferLoad(values[node.source], [rewrite(i, replace) for i in node.indices])
        return None

    return rewrite(expr, replace)


def walk(expr: Expr) -> Iterable[Expr]:
    """Every node of an expression, outermost first."""
    yield expr
    for operand in operands(expr):
        yield from walk(operand)


def variables(expr: Expr) -> Iterable[ir.Var]:
    """Scalar variables used in an expression; buffers that it loads from are not among them."""
    return (node for node in walk(expr) if isinstance(node, ir.Var) and not tirx.is_buffer_var(node))


def loads(expr: Expr) -> Iterable[ir.TensorLoad]:
    """Every load in an expression."""
    return (node for node in walk(expr) if isinstance(node, ir.TensorLoad))


def op_name(expr: Expr) -> str:
    """Name of the operator that a call calls, such as ``tirx.tvm_storage_sync``; else the empty string."""
    return str(expr.op.name) if isinstance(expr, ir.Call) and isinstance(expr.op, ir.Op) else ""


def statements(stmt: Any) -> list[Any]:
    """A statement as a flat list."""
    if isinstance(stmt, tirx.SeqStmt):
        return [s for part in stmt.seq for s in statements(part)]
    return [] if stmt is None else [stmt]


def sequence(parts: Sequence[Any]) -> Any:
    """Statements as one."""
    if not parts:
        return tirx.Evaluate(prim.IntImm("int32", 0))
    return parts[0] if len(parts) == 1 else tirx.SeqStmt(list(parts))


def bodies(stmt: Any) -> list[Any]:
    """Statements directly inside another."""
    if isinstance(stmt, tirx.SeqStmt):
        return list(stmt.seq)
    if isinstance(stmt, tirx.For | tirx.While | tirx.AttrStmt):
        return [stmt.body]
    if isinstance(stmt, tirx.IfThenElse):
        return [stmt.then_case] + ([stmt.else_case] if stmt.else_case is not None else [])
    return []


def own_expressions(stmt: Any) -> list[Expr]:
    """Expressions of a statement itself, without those of the statements inside it."""
    if isinstance(stmt, tirx.For):
        return [stmt.min, stmt.extent]
    if isinstance(stmt, tirx.While | tirx.IfThenElse):
        return [stmt.condition]
    if isinstance(stmt, tirx.BufferStore):
        return [stmt.value, *stmt.indices]
    if isinstance(stmt, tirx.Evaluate | tirx.Bind):
        return [stmt.value]
    if isinstance(stmt, tirx.AttrStmt):
        return [stmt.value] if isinstance(stmt.value, ir.Expr) else []
    return []


def all_statements(stmt: Any) -> Iterable[Any]:
    """Every statement below one, itself included, in order."""
    yield stmt
    for body in bodies(stmt):
        yield from all_statements(body)


def definitions_in_memory(stmt: Any) -> Any:
    """``stmt`` with every definition as a store to a cell of memory, and its uses as loads.

    Machine code is the same; TVM, which puts definitions into all their uses whenever it simplifies, takes
    seconds for a kernel otherwise.
    """
    cells: dict[ir.Var, ir.Var] = {}
    at = prim.IntImm("int32", 0)

    def value(expr: Expr) -> Expr:
        return rewrite(expr, load) if cells else expr

    def load(node: Expr) -> Expr | None:
        return tirx.BufferLoad(cells[node], [at]) if isinstance(node, ir.Var) and node in cells else None

    def convert(stmt: Any) -> Any:
        if isinstance(stmt, tirx.SeqStmt):
            return sequence([convert(s) for s in stmt.seq])
        if isinstance(stmt, tirx.Bind):
            new = value(stmt.value)
            cells[stmt.var] = tirx.decl_buffer((1,), str(stmt.var.ty), name=str(stmt.var.name))
            return tirx.BufferStore(cells[stmt.var], new, [at])
        if isinstance(stmt, tirx.BufferStore):
            return tirx.BufferStore(stmt.buffer, value(stmt.value), [value(i) for i in stmt.indices])
        if isinstance(stmt, tirx.For):
            low, extent = value(stmt.min), value(stmt.extent)
            return tirx.For(stmt.loop_var, low, extent, stmt.kind, convert(stmt.body))
        if isinstance(stmt, tirx.While):
            return tirx.While(value(stmt.condition), convert(stmt.body))
        if isinstance(stmt, tirx.IfThenElse):
            other = None if stmt.else_case is None else convert(stmt.else_case)
            return tirx.IfThenElse(value(stmt.condition), convert(stmt.then_case), other)
        return stmt

    body = convert(stmt)
    return sequence([*(tirx.AllocBuffer(c) for c in cells.values()), body])
