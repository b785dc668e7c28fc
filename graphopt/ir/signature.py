"""The signature of a program: names, dtypes and shapes of what goes in and comes out."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

Dim = int | str
"""A fixed size, a dimension name, or an expression of dimension names such as ``"2*height"``."""


@dataclass(frozen=True)
class DimRange:
    """The sizes that a symbolic dimension may take.

    Attributes:
        min: smallest size, inclusive.
        max: largest size, inclusive; None when unbounded.
        multiple_of: every size is a multiple of this.
    """

    min: int = 1
    max: int | None = None
    multiple_of: int = 1

    def __contains__(self, size: int) -> bool:
        return self.min <= size and (self.max is None or size <= self.max) and size % self.multiple_of == 0

    def __str__(self) -> str:
        upper = "∞" if self.max is None else str(self.max)
        step = f", multiple of {self.multiple_of}" if self.multiple_of != 1 else ""
        return f"[{self.min}, {upper}]{step}"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one input or output."""

    name: str
    dtype: torch.dtype
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        dims = ", ".join(str(d) for d in self.shape)
        return f"{self.name}: {dtype_name(self.dtype)}[{dims}]"


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs and symbolic dimensions of a program.

    ``dims`` has one entry for each name that occurs in a shape.  Input shapes use plain names
    wherever torch.export could keep them; output shapes may hold expressions.

    Programs are pure.  A buffer that the module updates (a static KV cache, a running counter) is
    an input that holds the old value and an output that holds the new one; ``state`` maps the
    output's name to the input's, so that a caller knows what to feed back.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, DimRange] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_static(self) -> bool:
        return not self.dims

    def resolve(self, shape: tuple[Dim, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The concrete shape when each symbolic dimension has the size given.

        Raises:
            KeyError: a dimension of ``shape`` has no size.
        """
        return tuple(d if isinstance(d, int) else evaluate_dim(d, sizes) for d in shape)

    def __str__(self) -> str:
        ins = ", ".join(str(s) for s in self.inputs)
        outs = ", ".join(str(s) for s in self.outputs)
        return f"({ins}) -> ({outs})"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form; :meth:`from_dict` reads it back."""

        def spec(s: TensorSpec) -> dict[str, Any]:
            return {"name": s.name, "dtype": dtype_name(s.dtype), "shape": list(s.shape)}

        return {
            "inputs": [spec(s) for s in self.inputs],
            "outputs": [spec(s) for s in self.outputs],
            "dims": {
                n: {"min": r.min, "max": r.max, "multiple_of": r.multiple_of} for n, r in self.dims.items()
            },
            "state": dict(self.state),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Signature:
        def spec(d: Mapping[str, Any]) -> TensorSpec:
            return TensorSpec(d["name"], dtype_from_name(d["dtype"]), tuple(d["shape"]))

        return Signature(
            tuple(spec(d) for d in data["inputs"]),
            tuple(spec(d) for d in data["outputs"]),
            {n: DimRange(**r) for n, r in data["dims"].items()},
            dict(data.get("state", {})),
        )


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` -> ``"float32"``."""
    return str(dtype).removeprefix("torch.")


def dtype_from_name(name: str) -> torch.dtype:
    """``"float32"`` -> ``torch.float32``.

    Raises:
        ValueError: no dtype of that name exists.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype is named {name!r}")
    return dtype


def evaluate_dim(expression: str, sizes: Mapping[str, int]) -> int:
    """The value of a dimension expression, for example ``("2*height", {"height": 4}) -> 8``.

    Expressions are read by a small evaluator of our own: they also come from files, and
    ``sympy.sympify`` executes what it is given.

    Raises:
        KeyError: a name in the expression has no size.
        ValueError: the text is not a dimension expression, or its value is not an integer.
    """
    if expression in sizes:
        return sizes[expression]
    try:
        value = _evaluate(ast.parse(expression, mode="eval").body, sizes)
    except SyntaxError:
        raise ValueError(f"{expression!r} is not a dimension expression") from None
    if value.denominator != 1:
        raise ValueError(f"{expression!r} is {value} for {dict(sizes)}, not an integer")
    return int(value)


_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: a ** int(b),
}

_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "Max": max,
    "Min": min,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "floor": lambda a: Fraction(math.floor(a)),
    "ceiling": lambda a: Fraction(math.ceil(a)),
    "FloorDiv": lambda a, b: Fraction(a // b),
    "CleanDiv": operator.truediv,
    "CeilToInt": lambda a: Fraction(math.ceil(a)),
    "FloorToInt": lambda a: Fraction(math.floor(a)),
    "IntTrueDiv": operator.truediv,
    "TruncToInt": lambda a: Fraction(math.trunc(a)),
    "ToFloat": lambda a: a,
    "Abs": abs,
}


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(value)
        case ast.Name(id=name):
            if name not in sizes:
                raise KeyError(name)
            return Fraction(sizes[name])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, sizes)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_evaluate(left, sizes), _evaluate(right, sizes))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_evaluate(a, sizes) for a in args))
    raise ValueError(f"{ast.unparse(node)!r} is not a dimension expression")
