"""Patterns: what a rule looks for, as an expression of operators and variables.

A rule builds its pattern with the object ``op`` that it is given::

    def pattern(self, op, x, eps):
        return op.mul(x, op.rsqrt(op.add(op.mean(op.pow(x, 2), [-1], True), eps)))

* ``op.NAME`` stands for every overload of the ATen operator; ``op.graphopt.NAME`` for one of the
  dialect.
* Operands are matched by the operator's schema.  What the pattern leaves out must have its default
  value, unless the operand list ends in ``...``.
* The parameters of ``pattern`` are variables.  One that occurs twice must match the same value.
* A number matches an equal number, and a constant tensor with one element of that value.
* Operands of commutative operators match in both orders.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

aten = torch.ops.aten

Packet = torch._ops.OpOverloadPacket

COMMUTATIVE: frozenset[Packet] = frozenset(
    {aten.add, aten.mul, aten.maximum, aten.minimum, aten.eq, aten.ne, aten.logical_and, aten.logical_or,
     aten.logical_xor, aten.bitwise_and, aten.bitwise_or, aten.bitwise_xor}
)  # fmt: skip

ALIASES: dict[Packet, frozenset[Packet]] = {
    aten.reshape: frozenset({aten.reshape, aten.view, aten._unsafe_view}),
    aten.softmax: frozenset({aten.softmax, aten._softmax}),
    aten.to: frozenset({aten.to, aten._to_copy}),
}
"""Packets that mean the same to a pattern: the first stands for all."""


class Pattern:
    """Anything that can stand in a pattern."""


@dataclass(frozen=True, eq=False)
class Var(Pattern):
    """Matches one value and binds it; on its second occurrence, the same value only."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Wildcard(Pattern):
    """Matches anything, binds nothing."""

    def __repr__(self) -> str:
        return "_"


@dataclass(frozen=True, eq=False)
class Where(Pattern):
    """Matches what ``inner`` matches if ``predicate`` accepts the operand; ``words`` say what that is."""

    inner: Pattern
    predicate: Callable[[Any], bool]
    words: str

    def __repr__(self) -> str:
        return f"{self.inner!r} ({self.words})"


@dataclass(frozen=True, eq=False)
class Rest(Pattern):
    """Inside a list: binds all further elements as a list; each must match ``each`` if given."""

    name: str
    each: Pattern | None = None

    def __iter__(self) -> Any:
        """So that ``[first, *op.rest("xs")]`` reads naturally."""
        yield self

    def __repr__(self) -> str:
        return f"*{self.name}"


@dataclass(frozen=True, eq=False)
class Either(Pattern):
    """Matches the first alternative that leads to a match of the whole."""

    options: tuple[Any, ...]

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.options))


@dataclass(frozen=True, eq=False)
class Call(Pattern):
    """A call of any overload of ``packets``."""

    packets: frozenset[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    open: bool = False
    """Whether operands that the pattern leaves out may have any value."""
    shared: bool = False
    """Whether the value may be used outside the match."""
    name: str | None = None
    """The variable that the call's own value is bound to."""

    @property
    def commutative(self) -> bool:
        return len(self.args) >= 2 and any(p in COMMUTATIVE for p in self.packets)

    def __repr__(self) -> str:
        name = "|".join(sorted(packet_name(p) for p in self.packets))
        parts = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{name}({', '.join(parts)}{', ...' if self.open else ''})"


def packet_name(packet: Any) -> str:
    """``aten.add`` -> ``"add"``; dialect operators keep their namespace."""
    if isinstance(packet, Packet):
        namespace, _, name = packet._qualified_op_name.partition("::")
        return name if namespace == "aten" else f"{namespace}.{name}"
    return getattr(packet, "__name__", str(packet))


class _Namespace:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Callable[..., Call]:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._namespace == "graphopt":
            from graphopt.dialect.registry import load

            load()
        try:
            packet = getattr(getattr(torch.ops, self._namespace), name)
        except AttributeError:
            raise AttributeError(f"there is no operator {self._namespace}::{name}") from None

        def build(*args: Any, **kwargs: Any) -> Call:
            return make_call(ALIASES.get(packet, frozenset({packet})), args, kwargs)

        return build


class PatternOps(_Namespace):
    """The ``op`` of a rule's ``pattern``: operators, and the few forms that are not operators."""

    def __init__(self) -> None:
        super().__init__("aten")
        self.graphopt = _Namespace("graphopt")

    def either(self, *options: Any) -> Either:
        """One of several forms, tried in order."""
        return Either(options)

    def maybe(self, wrap: Callable[[Any], Any], inner: Any) -> Either:
        """``wrap(inner)`` or plain ``inner``: an operator that exporters put there or leave out."""
        return Either((wrap(inner), inner))

    def any_of(self, names: Sequence[str], *args: Any, **kwargs: Any) -> Call:
        """A call of any of several operators that take the same operands."""
        packets = frozenset(p for n in names for p in ALIASES.get(getattr(aten, n), {getattr(aten, n)}))
        return make_call(packets, args, kwargs)

    def rest(self, name: str, each: Any = None) -> Rest:
        """In a list: all further elements."""
        return Rest(name, each)

    def where(self, inner: Any, predicate: Callable[[Any], bool], words: str) -> Where:
        """``inner``, if ``predicate(operand)``; ``words`` complete "it is not ..."."""
        return Where(inner, predicate, words)

    def shared(self, call: Call) -> Call:
        """The value of ``call`` may have uses outside the match, or be an output of the graph."""
        return Call(call.packets, call.args, call.kwargs, call.open, True, call.name)

    def named(self, name: str, call: Call) -> Call:
        """Binds the value of an inner call, so that ``check`` and ``rewrite`` see it."""
        return Call(call.packets, call.args, call.kwargs, call.open, call.shared, name)

    def item(self, call: Any, index: int) -> Call:
        """One result of an operator that has several."""
        return make_call(frozenset({operator.getitem}), (call, index), {})

    @property
    def any(self) -> Wildcard:
        """Anything."""
        return Wildcard()


def make_call(packets: frozenset[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """A call pattern; a trailing ``...`` leaves the remaining operands open."""
    is_open = bool(args) and args[-1] is ...
    return Call(packets, args[:-1] if is_open else args, kwargs, is_open)


def anchors(pattern: Any) -> frozenset[Any]:
    """The packets that the value of ``pattern`` can come from."""
    if isinstance(pattern, Call):
        return pattern.packets
    if isinstance(pattern, Either):
        return frozenset(p for option in pattern.options for p in anchors(option))
    if isinstance(pattern, Where):
        return anchors(pattern.inner)
    raise TypeError(f"a pattern must be a call of an operator, not {pattern!r}")
