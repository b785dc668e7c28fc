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

_BINARY = (
    prim.Add, prim.Sub, prim.Mul, prim.Div, prim.Mod, prim.FloorDiv, prim.FloorMod, prim.Min, prim.Max,
    prim.EQ, prim.NE, prim.LT, prim.LE, prim.GT, prim.GE, prim.And, prim.Or,
    prim.LShift, prim.RShift, prim.BitwiseAnd, prim.BitwiseOr, prim.BitwiseXor,
)  # fmt: skip
_LEAVES = (ir.Var, prim.IntImm, prim.FloatImm, ir.StringImm)
# By exact type: TVM's classes have abstract bases, whose instance checks would take most of the time.
_OPERANDS: dict[type, Callable[[Any], list[Expr]]] = {
    **{kind: lambda e: [] for kind in _LEAVES},
    **{kind: lambda e: [e.a, e.b] for kind in _BINARY},
    ir.Call: lambda e: list(e.args),
    ir.TensorLoad: lambda e: list(e.indices),
    prim.Cast: lambda e: [e.value],
    prim.Broadcast: lambda e: [e.value],
    prim.Ramp: lambda e: [e.base, e.stride],
    prim.Not: lambda e: [e.a],
    prim.BitwiseNot: lambda e: [e.a],
    prim.Select: lambda e: [e.condition, e.true_value, e.false_value],
    prim.Shuffle: lambda e: [*e.vectors, *e.indices],
    prim.Let: lambda e: [e.value, e.body],
}
_REBUILT: dict[type, Callable[[Any, Sequence[Expr]], Expr]] = {
    **{kind: lambda e, new: type(e)(new[0], new[1]) for kind in _BINARY},
    ir.Call: lambda e, new: ir.Call(e.op, list(new), e.attrs, e.ty_args, ret_ty=e.ty),
    ir.TensorLoad: lambda e, new: tirx.BufferLoad(e.source, list(new)),
    prim.Cast: lambda e, new: prim.Cast(e.ty, new[0]),
    prim.Broadcast: lambda e, new: prim.Broadcast(new[0], e.lanes),
    prim.Ramp: lambda e, new: prim.Ramp(new[0], new[1], e.lanes),
    prim.Not: lambda e, new: prim.Not(new[0]),
    prim.BitwiseNot: lambda e, new: prim.BitwiseNot(new[0]),
    prim.Select: lambda e, new: prim.Select(new[0], new[1], new[2]),
    prim.Shuffle: lambda e, new: prim.Shuffle(list(new[: len(e.vectors)]), list(new[len(e.vectors) :])),
    prim.Let: lambda e, new: prim.Let(e.var, new[0], new[1]),
}


def operands(expr: Expr) -> list[Expr]:
    """The direct operands of an expression, in evaluation order.

    Raises:
        NotImplementedError: an expression of another kind.
    """
    try:
        return _OPERANDS[type(expr)](expr)
    except KeyError:
        raise NotImplementedError(f"expression {type(expr).__name__}") from None


def with_operands(expr: Expr, new: Sequence[Expr]) -> Expr:
    """The same expression on other operands.

    Raises:
        NotImplementedError: an expression of another kind, or one without operands.
    """
    try:
        return _REBUILT[type(expr)](expr, new)
    except KeyError:
        raise NotImplementedError(f"expression {type(expr).__name__}") from None


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
        kind = type(node)
        if kind is ir.Var:
            return values.get(node)
        if kind is ir.TensorLoad and node.source in values:
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
    return (node for node in walk(expr) if type(node) is ir.Var and not tirx.is_buffer_var(node))


def loads(expr: Expr) -> Iterable[ir.TensorLoad]:
    """Every load in an expression."""
    return (node for node in walk(expr) if type(node) is ir.TensorLoad)


def op_name(expr: Expr) -> str:
    """Name of the operator that a call calls, such as ``tirx.tvm_storage_sync``; else the empty string."""
    return str(expr.op.name) if type(expr) is ir.Call and type(expr.op) is ir.Op else ""


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
        return tirx.BufferLoad(cells[node], [at]) if type(node) is ir.Var and node in cells else None

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
