"""The converter table: one converter a torch operator overload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from graphopt.codegen.relax.dtypes import ALL, COMPLEX, FLOATS
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.codegen.relax.context import Context

ConverterFunction = Callable[..., Any]
"""``(context, *operands) -> relax expression`` (a tuple of them for several results).

Operands stand in the order of the operator's schema with its defaults filled in: tensors are Relax
expressions, sizes are ints or TIR expressions, anything else is what the node holds.
"""


@dataclass(frozen=True)
class Converter:
    """How one overload becomes Relax.

    Attributes:
        target: the overload.
        function: emits the result through a :class:`~graphopt.codegen.relax.context.Context`.
        dtypes: element types of the first tensor operand (of the result, where there is none)
            that the converter is right for; anything else is reported as unsupported.
    """

    target: torch._ops.OpOverload
    function: ConverterFunction
    dtypes: frozenset[torch.dtype]

    def __call__(self, context: Context, *operands: Any) -> Any:
        return self.function(context, *operands)


_TABLE: dict[torch._ops.OpOverload, Converter] = {}


def register_converter(
    target: torch._ops.OpOverload,
    function: ConverterFunction,
    *,
    dtypes: Collection[torch.dtype] = ALL,
) -> Converter:
    """Adds one converter to the table; dialect operators come in through here.

    Raises:
        UsageError: the overload has a converter already.
    """
    if target in _TABLE:
        raise UsageError(f"{target} has two Relax converters", code="GO-2006")
    entry = Converter(target, function, frozenset(dtypes))
    _TABLE[target] = entry
    return entry


def converter(
    *targets: torch._ops.OpOverload, dtypes: Collection[torch.dtype] = ALL
) -> Callable[[ConverterFunction], ConverterFunction]:
    """Registers the decorated function for each of ``targets``."""

    def register(function: ConverterFunction) -> ConverterFunction:
        for target in targets:
            register_converter(target, function, dtypes=dtypes)
        return function

    return register


_COMPLEX_TABLE: dict[torch._ops.OpOverload, Converter] = {}


def complex_converter(*targets: torch._ops.OpOverload) -> Callable[[ConverterFunction], ConverterFunction]:
    """Registers the decorated function for calls of ``targets`` that read or give complex tensors.

    A complex tensor is a real one in Relax, with a last axis of two: real and imaginary part.
    """

    def register(function: ConverterFunction) -> ConverterFunction:
        for target in targets:
            _COMPLEX_TABLE[target] = Converter(target, function, COMPLEX | FLOATS)
        return function

    return register


def complex_table() -> Mapping[torch._ops.OpOverload, Converter]:
    """The converters for complex operands and results, by overload."""
    from graphopt.codegen.relax import converters

    converters.load()
    return MappingProxyType(_COMPLEX_TABLE)


def converter_table() -> Mapping[torch._ops.OpOverload, Converter]:
    """Every registered converter by overload."""
    from graphopt.codegen.relax import converters

    converters.load()
    return MappingProxyType(_TABLE)
