"""Expressions of lowered TensorIR as a graph in which equal parts are one object.

TVM prints and passes on an exponential as a tree in which the clamped operand stands dozens of times.
Here each distinct value of a statement exists once, so that the printer can give a name to what is
used twice, and can see whether all of it can be computed in vectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import tvm_ffi
from tvm import ir, tirx

from graphopt.errors import InputError, InternalError


class DType(NamedTuple):
    """A type of values: ``kind`` is float, bfloat, int, uint or bool."""

    kind: str
    bits: int
    lanes: int

    @property
    def scalar(self) -> DType:
        """The type of one lane."""
        return self._replace(lanes=1)

    @property
    def is_integer(self) -> bool:
        """Signed or unsigned; bool is neither."""
        return self.kind in ("int", "uint")


@cache
def parse_dtype(text: str) -> DType:
    """``float32x8`` and the like.

    Raises:
        InputError: GO-3005, a type that C lacks.
    """
    found = re.fullmatch(r"(bool|bfloat|float|int|uint)(8|16|32|64)?(?:x(\d+))?", text)
    if (
        found is None
        or text.startswith(("float8", "bfloat8", "bfloat32", "bfloat64"))
        or (found[1] == "bool") != (found[2] is None)
    ):
        raise InputError(f"target 'c' has no type for {text}", code="GO-3005")
    return DType(found[1], int(found[2] or 8), int(found[3] or 1))


@dataclass(frozen=True)
class Storage:
    """An array of C.

    Attributes:
        name: in C.
        element: type of what it is declared an array of; a vector, for what is to stay in registers.
    """

    name: str
    element: DType


@dataclass(frozen=True, eq=False, repr=False)
class Value:
    """One value; two with the same contents are the same object, within one :class:`ValueBuilder`.

    Attributes:
        op: ``const`` ``var`` ``load`` ``element`` ``ramp`` ``broadcast`` ``cast`` ``reinterpret``
            ``select`` ``cond`` (only one of its branches is evaluated) ``call`` or an operator of C.
        attribute: a number, the name of a variable or function, or where a load reads.
    """

    op: str
    dtype: DType
    args: tuple[Value, ...] = ()
    attribute: Any = None


def values_of(root: Value) -> list[Value]:
    """A value and all that it is made of, each once."""
    found: dict[int, Value] = {}

    def visit(value: Value) -> None:
        if id(value) not in found:
            found[id(value)] = value
            for arg in value.args:
                visit(arg)

    visit(root)
    return list(found.values())


def substituted(expression: Any, values: Mapping[Any, Any]) -> Any:
    """A TensorIR expression with variables replaced."""
    return tvm_ffi.structural_map(expression, (ir.Var, lambda variable: values.get(variable, variable)))


@dataclass(frozen=True)
class View:
    """How a load or store sees an array: as elements of ``element``, which may be vectors."""

    storage: Storage
    element: DType


_BINARY: dict[type, str] = {
    tirx.Add: "+",
    tirx.Sub: "-",
    tirx.Mul: "*",
    tirx.Div: "/",
    tirx.Mod: "%",
    tirx.EQ: "==",
    tirx.NE: "!=",
    tirx.LT: "<",
    tirx.LE: "<=",
    tirx.GT: ">",
    tirx.GE: ">=",
    tirx.And: "&&",
    tirx.Or: "||",
    tirx.Min: "min",
    tirx.Max: "max",
}
_BY_NAME = {
    "BitwiseAnd": "&",
    "BitwiseOr": "|",
    "BitwiseXor": "^",
    "LShift": "<<",
    "RShift": ">>",
}
# Names of C's functions on doubles; those on floats end in f.
_FUNCTIONS = {
    "fabs": "fabs",
    "abs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "nearbyint",
    "nearbyint": "nearbyint",
    "sqrt": "sqrt",
    "exp": "exp",
    "exp2": "exp2",
    "exp10": "exp10",
    "log": "log",
    "log2": "log2",
    "log10": "log10",
    "log1p": "log1p",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "atan2": "atan2",
    "erf": "erf",
    "pow": "pow",
    "fmod": "fmod",
    "hypot": "hypot",
    "copysign": "copysign",
    "nextafter": "nextafter",
}


class ValueBuilder:
    """Makes values of TensorIR's expressions.

    Attributes:
        variables: what each variable in scope is.
        views: how each buffer in scope is stored.
    """

    def __init__(self) -> None:
        self.variables: dict[Any, Value] = {}
        self.views: dict[Any, View] = {}
        self._values: dict[Hashable, Value] = {}

    def make(self, op: str, dtype: DType, args: Sequence[Value] = (), attribute: Any = None) -> Value:
        """The value with these contents."""
        key = (op, dtype, tuple(map(id, args)), repr(attribute) if op == "const" else attribute)
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = Value(op, dtype, tuple(args), attribute)
        return found

    def integer(self, number: int, like: DType) -> Value:
        """An integer constant."""
        return self.make("const", like.scalar, (), number)

    def of(self, expression: Any) -> Value:
        """The value of an expression.

        Raises:
            InputError: GO-3005, an operation that has no form in C.
        """
        if isinstance(expression, ir.Var):
            return self.variables[expression]
        if isinstance(expression, ir.TensorLoad):
            return self._load(expression)
        dtype = parse_dtype(str(expression.ty))
        if isinstance(expression, tirx.IntImm):
            return self.make("const", dtype, (), int(expression.value))
        if isinstance(expression, tirx.FloatImm):
            return self.make("const", dtype, (), float(expression.value))
        symbol = _BINARY.get(type(expression)) or _BY_NAME.get(type(expression).__name__)
        if symbol is not None:
            return self.make(symbol, dtype, [self.of(expression.a), self.of(expression.b)])
        if isinstance(expression, tirx.FloorDiv | tirx.FloorMod):  # only in sizes; kernels are lowered
            function = "floor_div" if isinstance(expression, tirx.FloorDiv) else "floor_mod"
            return self.make("call", dtype, [self.of(expression.a), self.of(expression.b)], function)
        if isinstance(expression, tirx.Not):
            return self.make("!", dtype, [self.of(expression.a)])
        if type(expression).__name__ == "BitwiseNot":
            return self.make("~", dtype, [self.of(expression.a)])
        if isinstance(expression, tirx.Cast):
            return self.make("cast", dtype, [self.of(expression.value)])
        if isinstance(expression, tirx.Select):
            parts = (expression.condition, expression.true_value, expression.false_value)
            return self.make("select", dtype, [self.of(p) for p in parts])
        if isinstance(expression, tirx.Ramp):
            return self.make("ramp", dtype, [self.of(expression.base), self.of(expression.stride)])
        if isinstance(expression, tirx.Broadcast):
            return self.make("broadcast", dtype, [self.of(expression.value)])
        if isinstance(expression, tirx.Let):
            self.variables[expression.var] = self.of(expression.value)
            return self.of(expression.body)
        if isinstance(expression, ir.Call):
            return self._call(expression, dtype)
        raise InputError(f"target 'c' has no form for {type(expression).__name__}", code="GO-3005")

    def index(self, buffer: Any, indices: Sequence[Any]) -> Value:
        """The flat index of an access."""
        if len(indices) > 1:
            raise InternalError(f"buffer {buffer.name} is not flat", code="GO-1001")
        return self.of(indices[0]) if indices else self.integer(0, DType("int", 32, 1))

    def _load(self, load: Any) -> Value:
        view = self.views[load.source]
        index = self.index(load.source, load.indices)
        dtype = view.element._replace(lanes=view.element.lanes * index.dtype.lanes)
        if view.element.lanes > 1 and index.dtype.lanes > 1:
            raise InternalError(f"a vector of vectors of {load.source.name} is read", code="GO-1001")
        return self.make("load", dtype, [index], view)

    def _call(self, call: Any, dtype: DType) -> Value:
        name = call.op.name.split(".", 1)[1]
        if name == "call_pure_extern":
            function, *rest = call.args
            return self.make("call", dtype, [self.of(a) for a in rest], str(function.value))
        args = [self.of(a) for a in call.args]
        if name == "if_then_else":
            return self.make("cond", dtype, args)
        if name == "likely":
            return args[0]
        if name == "reinterpret":
            return self.make("reinterpret", dtype, args)
        if name in ("isnan", "isinf", "isfinite"):
            return self.make("call", dtype, args, name)
        if name in _FUNCTIONS and dtype.kind == "float":
            wide = dtype if dtype.bits >= 32 else dtype._replace(bits=32)
            args = [a if wide == dtype else self.make("cast", wide, [a]) for a in args]
            result = self.make("call", wide, args, _FUNCTIONS[name] + ("f" if wide.bits == 32 else ""))
            return result if wide == dtype else self.make("cast", dtype, [result])
        raise InputError(f"target 'c' has no form for {call.op.name}", code="GO-3005")

    def lane(self, value: Value, number: Value) -> Value:
        """One lane of a vector value, as a scalar; ``number`` may be a variable."""
        done: dict[int, Value] = {}

        def visit(v: Value) -> Value:
            if v.dtype.lanes == 1:
                return v
            if id(v) not in done:
                done[id(v)] = self._lane(v, number, visit)
            return done[id(v)]

        return visit(value)

    def _lane(self, value: Value, number: Value, visit: Callable[[Value], Value]) -> Value:
        dtype = value.dtype.scalar
        if value.op == "broadcast":
            return value.args[0]
        if value.op == "ramp":
            base, stride = value.args
            step = self.make("cast", dtype, [number]) if number.dtype != dtype else number
            if not (stride.op == "const" and stride.attribute == 1):
                step = self.make("*", dtype, [stride, step])
            return step if base.op == "const" and base.attribute == 0 else self.make("+", dtype, [base, step])
        if value.op == "load" and value.attribute.element.lanes > 1:
            return self.make("element", dtype, [value.args[0], number], value.attribute)
        return self.make(value.op, dtype, [visit(a) for a in value.args], value.attribute)
