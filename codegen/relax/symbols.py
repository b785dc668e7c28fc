"""Symbolic sizes: torch's sympy expressions as TIR expressions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
import tvm_ffi
from tvm import tirx
from tvm.ir import Range
from tvm.sym import Analyzer

from graphopt.errors import InternalError
from graphopt.ir.dimensions import split_label

Index = Any
"""A TIR expression, or a Python int where the value is known."""


class UnboundSymbol(Exception):
    """An expression uses a symbol that no input's shape defines (a data-dependent size)."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        super().__init__(symbol)


class SymbolTable:
    """One int64 TIR variable a symbol, and the translation of expressions over them.

    Attributes:
        variables: by symbol.
        examples: the value that a variable had in the example that was captured, by its name.

    A symbol that an input has only in a multiple, ``32*s47``, has no variable of its own: the
    variable is the axis, and the symbol is a thirty-second of it.

    Args:
        names: :attr:`Program.symbols`; symbols that are not in it keep their own names.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._scaled: dict[sympy.Symbol, sympy.Expr] = {}
        self.variables: dict[str, tirx.Var] = {}
        self.examples: dict[str, int] = {}
        self.analyzer = Analyzer()

    def define(self, symbol: sympy.Symbol, axis: int | None = None, factor: int = 1) -> tirx.Var:
        """The variable that ``symbol`` is, or is a fraction of; made on first use.

        Args:
            axis: size of an axis ``factor * symbol`` in the example that was captured.
        """
        label, divisor = split_label(self._names.get(symbol.name, symbol.name))
        key = symbol.name if divisor == 1 else label
        if key not in self.variables:
            self.variables[key] = tirx.Var(label, "int64")
            if axis is not None:
                self.examples[label] = axis * divisor // factor
        if divisor != 1:
            self._scaled[symbol] = sympy.Symbol(key, integer=True, positive=True) / divisor
        return self.variables[key]

    def typical(self, value: Index) -> int | None:
        """A size in the example that the program was captured from; None where no example is known."""
        if (number := known(value)) is not None:
            return number

        def example(variable: Any) -> Any:
            number = self.examples.get(variable.name)
            return variable if number is None else int64(number)

        return known(Analyzer().simplify(tvm_ffi.structural_map(value, (tirx.Var, example))))

    def renewed(self) -> SymbolTable:
        """A table of the same symbols with variables of its own: functions do not share variables."""
        other = SymbolTable(self._names)
        other._scaled = dict(self._scaled)
        other.examples = dict(self.examples)
        other.variables = {key: tirx.Var(v.name, "int64") for key, v in self.variables.items()}
        return other

    def size(self, value: int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool) -> Index:
        """A (symbolic) number of torch as a TIR expression; Python numbers stay as they are.

        Raises:
            UnboundSymbol: the value depends on a symbol that was not defined.
            InternalError: the expression holds a function that has no translation.
        """
        if isinstance(value, (bool, int, float)):
            return value
        return self.expression(value.node.expr.xreplace(self._scaled))

    def bound(self, variable: tirx.Var, low: int, high: int | None) -> None:
        """Tells the simplifier the range of a variable, both ends inclusive."""
        self.analyzer.bind(variable, Range(low, (1 << 31) if high is None else high + 1))

    def same(self, a: Index, b: Index) -> bool:
        """Whether two sizes are provably equal for every value of the symbols."""
        return bool(self.analyzer.can_prove_equal(int64(a), int64(b)))

    def differ(self, a: Index, b: Index) -> bool:
        """Whether two sizes are provably different for every value of the symbols."""
        return bool(self.analyzer.can_prove(tirx.NE(int64(a), int64(b))))

    def shape(self, sizes: Sequence[int | torch.SymInt]) -> list[tirx.Expr]:
        """A shape as int64 TIR expressions."""
        return [int64(self.size(s)) for s in sizes]

    def expression(self, expr: sympy.Basic) -> Index:
        """A sympy expression over torch's symbols as a TIR expression; see :meth:`size`."""
        if isinstance(expr, sympy.Symbol):
            try:
                return self.variables[expr.name]
            except KeyError:
                raise UnboundSymbol(expr.name) from None
        if isinstance(expr, sympy.Integer):
            return int(expr)
        if isinstance(expr, sympy.logic.boolalg.BooleanAtom):
            return bool(expr)
        if isinstance(expr, (sympy.Float, sympy.NumberSymbol)):
            return float(expr)
        if isinstance(expr, sympy.Mul):
            return self._product(expr)
        if isinstance(expr, sympy.Rational):
            return float(expr)
        if isinstance(expr, (sympy.floor, sympy.ceiling)):
            return self._rounded(expr)
        name = type(expr).__name__
        if name not in _FUNCTIONS:
            raise InternalError(f"no translation of {name} in the size {expr}", code="GO-1001")
        return _FUNCTIONS[name](*(self.expression(a) for a in expr.args))

    def _product(self, expr: sympy.Mul) -> Index:
        """A product; a rational factor p/q of an integer product is an exact floor division."""
        factor, rest = expr.as_coeff_Mul()
        if isinstance(factor, sympy.Rational) and not isinstance(factor, sympy.Integer):
            return _floordiv(_product(int(factor.p), self.expression(rest)), int(factor.q))
        return functools.reduce(_product, (self.expression(a) for a in expr.args))

    def _rounded(self, expr: sympy.floor | sympy.ceiling) -> Index:
        """A rounded quotient, as integer division of numerator by denominator."""
        numerator, denominator = (self.expression(e) for e in sympy.fraction(sympy.together(expr.args[0])))
        if isinstance(expr, sympy.ceiling):
            numerator = _sum(numerator, denominator, -1)
        return _floordiv(numerator, denominator)


def int64(value: Index) -> tirx.Expr:
    """A size as an int64 TIR expression."""
    if isinstance(value, (bool, int)):
        return tirx.IntImm("int64", int(value))
    return value if value.ty.dtype == "int64" else tirx.Cast("int64", value)


def known(value: Index) -> int | None:
    """The value of a size that is a constant, else None."""
    if isinstance(value, int):
        return value
    return int(value.value) if isinstance(value, tirx.IntImm) else None


def _is_number(*values: Index) -> bool:
    return all(isinstance(v, (bool, int, float)) for v in values)


def _product(a: Index, b: Index) -> Index:
    a, b = _same_kind(a, b)
    return a * b


def _sum(*terms: Index) -> Index:
    return functools.reduce(lambda a, b: (lambda p: p[0] + p[1])(_same_kind(a, b)), terms)


def _same_kind(a: Index, b: Index) -> tuple[Index, Index]:
    """Both operands as floats if one is; integers stay int64."""

    def floating(v: Index) -> bool:
        return isinstance(v, float) or (not _is_number(v) and v.ty.dtype == "float64")

    if _is_number(a, b) or floating(a) == floating(b):
        return a, b
    return _to_float(a), _to_float(b)


def _to_float(a: Index) -> Index:
    if _is_number(a):
        return float(a) if _is_number(a) else a
    return a if a.ty.dtype == "float64" else tirx.Cast("float64", a)


def _floordiv(a: Index, b: Index) -> Index:
    return a // b if _is_number(a, b) else tirx.floordiv(int64(a), int64(b))


def _mod(a: Index, b: Index) -> Index:
    return a % b if _is_number(a, b) else tirx.floormod(int64(a), int64(b))


def _power(base: Index, exponent: Index) -> Index:
    if _is_number(base, exponent):
        return base**exponent
    if isinstance(exponent, int) and exponent >= 0:
        return functools.reduce(_product, [base] * exponent, 1)
    if isinstance(exponent, int) and exponent == -1:
        return _divide(1.0, base)
    if exponent == 0.5:
        return _sqrt(base)
    return tirx.pow(_float64(base), _float64(exponent))


def _float64(a: Index) -> tirx.Expr:
    a = _to_float(a)
    return tirx.FloatImm("float64", a) if isinstance(a, float) else a


def _divide(a: Index, b: Index) -> Index:
    return a / b if _is_number(a, b) else tirx.div(_float64(a), _float64(b))


def _sqrt(a: Index) -> Index:
    return math.sqrt(a) if _is_number(a) else tirx.sqrt(_float64(a))


def _round_to_int(function: Callable[[Any], Any], python: Callable[[float], int]) -> Callable[[Index], Index]:
    def rounded(a: Index) -> Index:
        if _is_number(a):
            return int(python(a))
        return a if a.ty.dtype == "int64" else tirx.Cast("int64", function(a))

    return rounded


def _extreme(tir: Callable[[Any, Any], Any], python: Callable[..., Any]) -> Callable[..., Index]:
    def pair(a: Index, b: Index) -> Index:
        return python(a, b) if _is_number(a, b) else tir(int64(a), int64(b))

    return lambda *args: functools.reduce(pair, args)


def _relation(compare: Callable[[Any, Any], Any]) -> Callable[[Index, Index], Index]:
    return lambda a, b: compare(*_same_kind(a, b)) if _is_number(a, b) else compare(int64(a), int64(b))


def _where(condition: Index, a: Index, b: Index) -> Index:
    if _is_number(condition):
        return a if condition else b
    return tirx.Select(condition, int64(a), int64(b))


# By class name: sympy's own, and those of torch.utils._sympy.functions, which is private.
_FUNCTIONS: dict[str, Callable[..., Index]] = {
    "Add": _sum,
    "Pow": _power,
    "PowByNatural": _power,
    "FloatPow": _power,
    "FloorDiv": _floordiv,
    "CleanDiv": _floordiv,
    "CeilDiv": lambda a, b: _floordiv(_sum(a, _sum(b, -1)), b),
    "Mod": _mod,
    "PythonMod": _mod,
    "ModularIndexing": lambda a, b, c: _mod(_floordiv(a, b), c),
    "Max": _extreme(tirx.max, max),
    "Min": _extreme(tirx.min, min),
    "IntTrueDiv": _divide,
    "FloatTrueDiv": _divide,
    "ToFloat": _to_float,
    "Identity": lambda a: a,
    "FloorToInt": _round_to_int(tirx.floor, math.floor),
    "CeilToInt": _round_to_int(tirx.ceil, math.ceil),
    "TruncToInt": _round_to_int(tirx.trunc, math.trunc),
    "RoundToInt": _round_to_int(tirx.nearbyint, round),
    "OpaqueUnaryFn_sqrt": _sqrt,
    "Equality": _relation(lambda a, b: a == b if _is_number(a, b) else tirx.EQ(a, b)),
    "Unequality": _relation(lambda a, b: a != b if _is_number(a, b) else tirx.NE(a, b)),
    "StrictLessThan": _relation(lambda a, b: a < b),
    "LessThan": _relation(lambda a, b: a <= b),
    "StrictGreaterThan": _relation(lambda a, b: a > b),
    "GreaterThan": _relation(lambda a, b: a >= b),
    "Where": _where,
}
