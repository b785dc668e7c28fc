"""The table of converters: which Python function evaluates which ONNX operator.

A converter is registered for the operator-set version in which the operator got the meaning that the
converter implements.  The one with the highest registered version that is not above the model's
version is used: ``Softmax`` has one for 1 (flattening) and one for 13 (per axis).

``host_op`` functions are a second table: they evaluate an operator on :class:`HostValue` inputs, so that
shape arithmetic never becomes a tensor.  They may return None to say "as a tensor, please".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.errors import UsageError

ONNX_DOMAIN = ""
_ALIASES = {"ai.onnx": ONNX_DOMAIN}


class InputKind(enum.Enum):
    """The form in which a converter takes an input."""

    TENSOR = "tensor"
    """``torch.Tensor``."""
    OPERAND = "operand"
    """``torch.Tensor``, or a Python (or symbolic) scalar where the value is one number."""
    INDEX = "index"
    """The same, but a number only where the value has no axis: an index of shape [1] keeps the axis."""
    HOST = "host"
    """:class:`HostValue`; an input that is not known at import time is an error."""
    VALUE = "value"
    """Whatever the value is; for operators that pass values through."""


TENSOR, OPERAND, INDEX = InputKind.TENSOR, InputKind.OPERAND, InputKind.INDEX
HOST, VALUE = InputKind.HOST, InputKind.VALUE


@dataclass(frozen=True)
class Converter:
    """A function with the operator it evaluates and the form of its inputs.

    Attributes:
        ignores: attributes that may stay unread: they say nothing about the result, or only in a mode
            of the operator that the node does not use.
    """

    domain: str
    op_type: str
    since: int
    function: Callable[..., Any]
    kinds: Mapping[int, InputKind] = field(default_factory=dict)
    default_kind: InputKind = InputKind.TENSOR
    ignores: frozenset[str] = frozenset()

    def kind(self, index: int) -> InputKind:
        return self.kinds.get(index, self.default_kind)


class Registry:
    """Converters by (domain, operator, version)."""

    def __init__(self) -> None:
        self._table: dict[tuple[str, str], dict[int, Converter]] = {}

    def add(self, converter: Converter) -> None:
        """Registers a converter.

        Raises:
            UsageError: one is registered already for this domain, operator and version.
        """
        versions = self._table.setdefault((normal_domain(converter.domain), converter.op_type), {})
        if converter.since in versions:
            other = versions[converter.since].function
            raise UsageError(
                f"a converter for {converter.domain or 'ai.onnx'}.{converter.op_type} version "
                f"{converter.since} is registered already: {other.__module__}.{other.__qualname__}",
                code="GO-2006",
            )
        versions[converter.since] = converter

    def find(self, domain: str, op_type: str, opset: int) -> Converter | None:
        """The converter with the highest registered version not above ``opset``, or None."""
        versions = self._table.get((normal_domain(domain), op_type), {})
        usable = [v for v in versions if v <= opset]
        return versions[max(usable)] if usable else None

    def __iter__(self) -> Any:
        return (c for versions in self._table.values() for c in versions.values())

    def operator(
        self,
        op_type: str,
        *,
        since: int = 1,
        domain: str = ONNX_DOMAIN,
        host: tuple[int, ...] = (),
        kinds: Mapping[int, InputKind] | None = None,
        default: InputKind = InputKind.TENSOR,
        ignores: Collection[str] = (),
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: registers ``function(call, *inputs)`` as the converter of an operator.

        Args:
            host: indices of inputs that must be known at import time (shapes, axes, ...).
            kinds: form of single inputs, where it is not ``default``.
            ignores: attributes that may stay unread; every other one that a node carries and the
                function did not ask for is an error, unless it has its default value.
        """
        table = dict(kinds or {}) | {i: InputKind.HOST for i in host}

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.add(Converter(domain, op_type, since, function, table, default, frozenset(ignores)))
            return function

        return register


def normal_domain(domain: str) -> str:
    """``ai.onnx`` is another spelling of the empty domain."""
    return _ALIASES.get(domain, domain)


CONVERTERS = Registry()
HOST_OPS = Registry()


def op(op_type: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a converter; see :meth:`Registry.operator`."""
    return CONVERTERS.operator(op_type, **options)


def host_op(op_type: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the evaluation of an operator on host values; see :meth:`Registry.operator`."""
    return HOST_OPS.operator(op_type, **options)
