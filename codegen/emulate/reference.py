"""What a kernel means: its unscheduled function in float64, and how much rounding may change of it.

The noise of an output is measured as :mod:`graphopt.verification.noise` does it for graphs: the float64
function runs again with the result of every arithmetic operation multiplied by ``1 ± 2u``, ``u`` the
roundoff of the dtype that the operation has in the kernel and the sign drawn for each operation of each
iteration (CESTAC; Vignes, *Math. Comput. Simul.* 35, 1993).
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.accesses import lanes
from graphopt.codegen.emulate.memory import NotModelled
from graphopt.codegen.rewrite import Expr, all_statements, op_name, operands, sequence, with_operands

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit roundoff of the dtypes that are widened."""

_EXACT_CALLS = frozenset(
    {
        "prim.if_then_else",
        "tirx.if_then_else",
        "tirx.floor",
        "tirx.ceil",
        "tirx.trunc",
        "tirx.round",
        "tirx.nearbyint",
        "tirx.fabs",
        "tirx.reinterpret",
        "prim.likely",
    }
)
_WHOLE_CALLS = frozenset({"tirx.floor", "tirx.ceil", "tirx.trunc", "tirx.round", "tirx.nearbyint"})
_ROUNDED = (prim.Add, prim.Sub, prim.Mul, prim.Div)
# Odd constants that spread bits (the golden ratio, and the finaliser of Murmur3).  TVM lets no product
# overflow, so 31 bits at a time are mixed to 63.
_GOLDEN, _MIX_1, _MIX_2 = 0x1E3779B1, 0x45EBCA6B, 0x42B2AE35
_LOW = 2**31 - 1
_FIRST_BIT, _BITS = 16, 44


def in_float64(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A lowered CPU function with every floating-point value in float64.

    Its parameters are those of ``func``, with float64 for their dtypes, then ``amount`` (float64: what
    each operation is perturbed by, in units of its roundoff; 0 gives the reference) and ``seed`` (int64).

    Raises:
        NotModelled: it has a construct that is not understood.
    """
    return _Widening(func).function()


def is_float(dtype: str) -> bool:
    """Whether a TVM dtype is of floating point, in scalars or vectors."""
    return dtype.partition("x")[0] in ROUNDOFF


def _u64(value: int) -> Expr:
    return prim.IntImm("uint64", value)


class _Widening:
    def __init__(self, func: tirx.PrimFunc) -> None:
        self._func = func
        self._amount = tirx.Var("amount", "float64")
        self._seed = tirx.Var("seed", "int64")
        self._vars: dict[ir.Var, ir.Var] = {}
        self._loops: list[ir.Var] = []
        self._statements = 0
        self._bits: ir.Var | None = None
        # The number of each operation of a statement: the same operation, written twice, rounds alike.
        self._operations: dict[int, int] = {}

    def function(self) -> tirx.PrimFunc:
        params = [self._var(p) for p in self._func.params]
        body = self._statement(self._func.body)
        widened = tirx.PrimFunc([*params, self._amount, self._seed], body)
        return widened.with_attr("global_symbol", "reference")

    def _var(self, var: ir.Var) -> ir.Var:
        """The float64 twin of a variable or buffer; others are themselves."""
        if var in self._vars:
            return self._vars[var]
        if tirx.is_buffer_var(var):
            if not is_float(str(var.dtype)):
                return var
            new = tirx.decl_buffer(
                var.shape,
                "float64",
                name=str(var.name),
                scope=str(var.scope()),
                elem_offset=var.ty.elem_offset,
            )
        elif is_float(str(var.ty)):
            new = tirx.Var(str(var.name), "float64")
        else:
            return var
        self._vars[var] = new
        return new

    # Statements --------------------------------------------------------------------------------

    def _statement(self, stmt: Any) -> Any:
        if isinstance(stmt, tirx.SeqStmt):
            return sequence([self._statement(s) for s in stmt.seq])
        if isinstance(stmt, tirx.AttrStmt):
            return self._statement(stmt.body)
        if isinstance(stmt, tirx.AllocBuffer):
            return tirx.AllocBuffer(self._var(stmt.buffer))
        if isinstance(stmt, tirx.DeclBuffer):
            source = stmt.data.args[0]
            return tirx.DeclBuffer(self._var(stmt.buffer), data=tirx.buffer_data(self._var(source)))
        if isinstance(stmt, tirx.For):
            self._loops.append(stmt.loop_var)
            body = self._statement(stmt.body)
            self._loops.pop()
            low, extent = (self._plain(e) for e in (stmt.min, stmt.extent))
            return tirx.For(stmt.loop_var, low, extent, tirx.ForKind.SERIAL, body)
        if isinstance(stmt, tirx.While):
            return tirx.While(self._plain(stmt.condition), self._statement(stmt.body))
        if isinstance(stmt, tirx.IfThenElse):
            other = None if stmt.else_case is None else self._statement(stmt.else_case)
            return tirx.IfThenElse(self._plain(stmt.condition), self._statement(stmt.then_case), other)
        if isinstance(stmt, tirx.Evaluate) and isinstance(stmt.value, prim.IntImm):
            return stmt
        if isinstance(stmt, tirx.Bind):
            return self._perturbed(lambda: tirx.Bind(self._var(stmt.var), self._value(stmt.value)))
        if isinstance(stmt, tirx.BufferStore):
            buffer = self._var(stmt.buffer)
            at = [self._plain(i) for i in stmt.indices]
            return self._perturbed(lambda: tirx.BufferStore(buffer, self._value(stmt.value), at))
        raise NotModelled(f"statement {type(stmt).__name__}")

    def _perturbed(self, make: Any) -> Any:
        """The statement, after the random bits that it draws if it has operations to perturb."""
        self._bits, self._operations = tirx.Var("bits", "uint64"), {}
        bits = self._bits
        stmt = make()
        self._bits = None
        if not self._operations:
            return stmt
        self._statements += 1
        return tirx.SeqStmt([*self._draw(bits), stmt])

    def _draw(self, bits: ir.Var) -> list[Any]:
        value: Expr = prim.Cast("uint64", self._seed) + _u64(self._statements * _GOLDEN)
        for depth, var in enumerate(self._loops):
            value = value + prim.Cast("uint64", var) * _u64((2 * depth + 3) * _GOLDEN % _LOW | 1)
        out = []
        for shift, factor in ((13, _MIX_1), (31, _MIX_2), (31, _GOLDEN)):
            before = tirx.Var("mixed", "uint64")
            out.append(tirx.Bind(before, value))
            low = prim.BitwiseAnd(prim.BitwiseXor(before, prim.RShift(before, _u64(shift))), _u64(_LOW))
            value = low * _u64(factor)
        out.append(tirx.Bind(bits, value))
        return out

    # Expressions -------------------------------------------------------------------------------

    def _plain(self, expr: Expr) -> Expr:
        """An expression of a condition or an index: its operations are not perturbed."""
        held, self._bits = self._bits, None
        value = self._value(expr)
        self._bits = held
        return value

    def _value(self, expr: Expr) -> Expr:
        dtype = str(expr.ty)
        if isinstance(expr, ir.Var):
            return self._var(expr)
        if isinstance(expr, prim.FloatImm):
            return prim.FloatImm("float64", expr.value)
        if isinstance(expr, ir.TensorLoad):
            return tirx.BufferLoad(self._var(expr.source), [self._plain(i) for i in expr.indices])
        if isinstance(expr, prim.Cast):
            return self._cast(expr)
        if op_name(expr) == "tirx.reinterpret":
            return self._bit_cast(expr)
        before = operands(expr)
        after = [self._value(o) for o in before]
        if not is_float(dtype):
            return (
                expr
                if all(a is b for a, b in zip(before, after, strict=True))
                else with_operands(expr, after)
            )
        if lanes(expr) > 1:
            raise NotModelled("a vector in an unscheduled function")
        if isinstance(expr, ir.Call):
            wide = ir.Call(expr.op, after, expr.attrs, expr.ty_args, ret_ty="float64")
            return wide if op_name(expr) in _EXACT_CALLS else self._rounded(wide, expr)
        wide = with_operands(expr, after)
        return self._rounded(wide, expr) if isinstance(expr, _ROUNDED) and not _is_whole(expr) else wide

    def _cast(self, expr: Any) -> Expr:
        source, dtype = str(expr.value.ty), str(expr.ty)
        value = self._value(expr.value)
        if not is_float(dtype):
            return prim.Cast(dtype, value)
        if not is_float(source):
            return prim.Cast("float64", value)
        return self._rounded(value, expr) if ROUNDOFF[dtype] > ROUNDOFF[source] else value

    def _bit_cast(self, expr: Any) -> Expr:
        """Bits are those of the dtype that the kernel has."""
        (source,) = expr.args
        value, dtype = self._value(source), str(expr.ty)
        if is_float(str(source.ty)):
            value = prim.Cast(str(source.ty), value)
        result = ir.Call(expr.op, [value], expr.attrs, expr.ty_args, ret_ty=expr.ty)
        return prim.Cast("float64", result) if is_float(dtype) else result

    def _rounded(self, value: Expr, expr: Expr) -> Expr:
        """``value``, the result of ``expr`` in float64, off by the rounding of its dtype."""
        dtype = str(expr.ty)
        if self._bits is None:
            return value
        number = self._operations.setdefault(int(tvm_ffi.structural_hash(expr)), len(self._operations))
        bit = prim.BitwiseAnd(prim.RShift(self._bits, _u64(_FIRST_BIT + number % _BITS)), _u64(1))
        sign = prim.Cast(
            "float64", prim.Cast("int64", bit) * prim.IntImm("int64", 2) - prim.IntImm("int64", 1)
        )
        size = self._amount * prim.FloatImm("float64", ROUNDOFF[dtype])
        return value * (prim.FloatImm("float64", 1.0) + size * sign)


def _is_whole(expr: Expr) -> bool:
    """Whether a value is a whole number, as the exponent of an exponential is: it has no rounding."""
    if isinstance(expr, prim.FloatImm):
        return float(expr.value).is_integer()
    if isinstance(expr, prim.Add | prim.Sub | prim.Mul):
        return _is_whole(expr.a) and _is_whole(expr.b)
    if isinstance(expr, prim.Cast):
        return not is_float(str(expr.value.ty))
    return op_name(expr) in _WHOLE_CALLS


def outputs_of(func: tirx.PrimFunc) -> list[int]:
    """Positions of the parameters that a lowered function writes."""
    origin = {s.buffer: s.data.args[0] for s in all_statements(func.body) if isinstance(s, tirx.DeclBuffer)}
    written = [s.buffer for s in all_statements(func.body) if isinstance(s, tirx.BufferStore)]
    roots = {origin.get(b, b) for b in written}
    return [i for i, p in enumerate(func.params) if p in roots]
