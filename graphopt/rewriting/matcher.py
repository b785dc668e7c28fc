"""Matching a pattern at a node, with a reason when it fails."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from graphopt.ir.program import Program
from graphopt.ir.schema import bound_arguments
from graphopt.rewriting.pattern import Call, Either, Pattern, Rest, Var, Where, Wildcard, packet_name

FLOAT_STEPS = 2.0**-23
"""Constants in files are rounded to float32: 0.70710677 in a pattern's place of sqrt(1/2) matches."""


@dataclass
class Bindings:
    """What a match has bound so far; copied at each choice."""

    values: dict[str, Any] = field(default_factory=dict)
    nodes: dict[fx.Node, Call] = field(default_factory=dict)
    """Call nodes inside the match, with the pattern each matched."""

    def bound(self, name: str, value: Any) -> Bindings:
        return Bindings({**self.values, name: value}, self.nodes)

    def with_node(self, node: fx.Node, pattern: Call) -> Bindings:
        values = {**self.values, pattern.name: node} if pattern.name else self.values
        return Bindings(values, {**self.nodes, node: pattern})


@dataclass
class Failure:
    """The mismatch that went furthest: how many operators had matched, and why it stopped."""

    depth: int = -1
    reason: str = ""
    node: fx.Node | None = None

    def note(self, depth: int, reason: str, node: fx.Node | None) -> None:
        if depth > self.depth:
            self.depth, self.reason, self.node = depth, reason, node


class Matcher:
    """Matches patterns in one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.failure = Failure()

    def match(self, patterns: Sequence[Any], anchor: fx.Node) -> Iterator[tuple[Bindings, list[fx.Node]]]:
        """Every way in which ``patterns`` match with the first one's value at ``anchor``.

        Yields:
            the bindings, and the node of each pattern in order.
        """
        self.failure = Failure()
        for bindings in self._operand(patterns[0], anchor, Bindings()):
            yield from self._others(patterns, bindings, [anchor])

    def _others(
        self, patterns: Sequence[Any], bindings: Bindings, found: list[fx.Node]
    ) -> Iterator[tuple[Bindings, list[fx.Node]]]:
        if len(found) == len(patterns):
            problem = self._escape(bindings, found)
            if problem is None:
                yield bindings, found
            else:
                self.failure.note(len(bindings.nodes) + 1, problem[0], problem[1])
            return
        pattern = patterns[len(found)]
        for candidate in self._candidates(bindings, found):
            for more in self._operand(pattern, candidate, bindings):
                yield from self._others(patterns, more, [*found, candidate])

    def _candidates(self, bindings: Bindings, found: list[fx.Node]) -> list[fx.Node]:
        """Nodes that use something already bound: where a further result can be."""
        seen: dict[fx.Node, None] = {}
        for value in [*bindings.values.values(), *bindings.nodes]:
            if isinstance(value, fx.Node):
                seen.update(dict.fromkeys(value.users))
        return sorted(
            (n for n in seen if n not in found and n not in bindings.nodes), key=lambda n: n._sort_key
        )

    def _escape(self, bindings: Bindings, results: list[fx.Node]) -> tuple[str, fx.Node] | None:
        """The shared-use and graph-output guards: inner values must not be needed elsewhere."""
        inside = set(bindings.nodes)
        for node, pattern in bindings.nodes.items():
            if node in results or pattern.shared:
                continue
            for user in node.users:
                if user.op == "output":
                    return f"{node.name} is an output of the graph", node
                if user not in inside:
                    return f"{node.name} is also used by {user.name}", node
        return None

    # -- one operand -------------------------------------------------------------------------

    def _operand(self, pattern: Any, value: Any, bindings: Bindings) -> Iterator[Bindings]:
        if isinstance(pattern, Var):
            if pattern.name not in bindings.values:
                yield bindings.bound(pattern.name, value)
            elif self._equal(bindings.values[pattern.name], value):
                yield bindings
            else:
                self._fail(bindings, f"{pattern.name} is two different values", value)
        elif isinstance(pattern, Wildcard):
            yield bindings
        elif isinstance(pattern, Where):
            if pattern.predicate(value):
                yield from self._operand(pattern.inner, value, bindings)
            else:
                self._fail(bindings, f"{_show(value)} is not {pattern.words}", value)
        elif isinstance(pattern, Either):
            for option in pattern.options:
                yield from self._operand(option, value, bindings)
        elif isinstance(pattern, Call):
            yield from self._call(pattern, value, bindings)
        elif isinstance(pattern, (list, tuple)):
            yield from self._sequence(list(pattern), value, bindings)
        elif isinstance(pattern, Pattern):
            raise TypeError(f"{pattern!r} cannot stand here")
        elif self._constant(pattern, value):
            yield bindings
        else:
            self._fail(bindings, f"expected {pattern!r}, found {_show(value)}", value)

    def _call(self, pattern: Call, value: Any, bindings: Bindings) -> Iterator[Bindings]:
        if not isinstance(value, fx.Node) or value.op != "call_function":
            self._fail(bindings, f"expected {_names(pattern)}, found {_show(value)}", value)
            return
        if value in bindings.nodes:
            # A value may stand twice in a pattern only through a variable.
            self._fail(bindings, f"{value.name} would stand for two parts of the pattern", value)
            return
        packet = packet_of(value)
        if packet not in pattern.packets:
            self._fail(bindings, f"expected {_names(pattern)}, found {packet_name(packet)}", value)
            return
        bindings = bindings.with_node(value, pattern)
        for operands in self._orders(pattern, value, bindings):
            yield from self._operands(operands, bindings)

    def _orders(self, pattern: Call, node: fx.Node, bindings: Bindings) -> Iterator[list[tuple[Any, Any]]]:
        """The pairings of pattern operands and actual ones, two where operands commute."""
        if not isinstance(node.target, torch._ops.OpOverload):
            if len(pattern.args) == len(node.args):
                yield list(zip(pattern.args, node.args, strict=True))
            return
        actual = bound_arguments(node)
        names = list(actual)
        if len(pattern.args) > len(names):
            self._fail(bindings, f"{node.target} has only {len(names)} operands", node)
            return
        unknown = [k for k in pattern.kwargs if k not in actual]
        if unknown:
            self._fail(bindings, f"{node.target} has no operand {unknown[0]!r}", node)
            return
        wanted = dict(zip(names, pattern.args, strict=False)) | pattern.kwargs
        if not pattern.open:
            for arg in node.target._schema.arguments:
                if arg.name in wanted:
                    continue
                if not arg.has_default_value() or not _same_default(actual[arg.name], arg.default_value):
                    self._fail(bindings, f"{arg.name} of {node.target} is {_show(actual[arg.name])}", node)
                    return
        pairs = [(p, actual[n]) for n, p in wanted.items()]
        yield pairs
        if pattern.commutative:
            (p0, v0), (p1, v1) = pairs[:2]
            yield [(p0, v1), (p1, v0), *pairs[2:]]

    def _operands(self, pairs: list[tuple[Any, Any]], bindings: Bindings) -> Iterator[Bindings]:
        if not pairs:
            yield bindings
            return
        (pattern, value), *rest = pairs
        for more in self._operand(pattern, value, bindings):
            yield from self._operands(rest, more)

    def _sequence(self, patterns: list[Any], value: Any, bindings: Bindings) -> Iterator[Bindings]:
        if not isinstance(value, (list, tuple)):
            self._fail(bindings, f"expected a list, found {_show(value)}", value)
            return
        items = list(value)
        if patterns and isinstance(patterns[-1], Rest):
            rest = patterns.pop()
            if len(items) < len(patterns):
                self._fail(bindings, f"expected at least {len(patterns)} elements, found {len(items)}", value)
                return
            tail = items[len(patterns) :]
            for more in self._operands(list(zip(patterns, items, strict=False)), bindings):
                yield from self._rest(rest, tail, more)
            return
        if len(items) != len(patterns):
            self._fail(bindings, f"expected {len(patterns)} elements, found {len(items)}", value)
            return
        yield from self._operands(list(zip(patterns, items, strict=True)), bindings)

    def _rest(self, rest: Rest, tail: list[Any], bindings: Bindings) -> Iterator[Bindings]:
        if rest.each is None:
            yield bindings.bound(rest.name, tail)
            return
        for more in self._operands([(rest.each, item) for item in tail], bindings):
            yield more.bound(rest.name, tail)

    # -- values ------------------------------------------------------------------------------

    def _constant(self, wanted: Any, value: Any) -> bool:
        if value is wanted:
            return True
        if isinstance(wanted, bool) or wanted is None or isinstance(wanted, (str, torch.dtype)):
            return type(value) is type(wanted) and value == wanted
        if isinstance(wanted, (int, float)):
            number = number_of(self.program, value)
            if number is None:
                return False
            if not math.isfinite(wanted) or wanted == int(wanted):
                return number == wanted
            return abs(number - wanted) <= FLOAT_STEPS * abs(wanted)
        return value == wanted

    def _equal(self, a: Any, b: Any) -> bool:
        if a is b:
            return True
        if isinstance(a, fx.Node) or isinstance(b, fx.Node):
            return False
        return type(a) is type(b) and a == b

    def _fail(self, bindings: Bindings, reason: str, value: Any) -> None:
        node = value if isinstance(value, fx.Node) else None
        self.failure.note(len(bindings.nodes), reason, node)


def packet_of(node: fx.Node) -> Any:
    """What patterns compare: the overload's packet, or the Python function."""
    target = node.target
    return target.overloadpacket if isinstance(target, torch._ops.OpOverload) else target


def number_of(program: Program, value: Any) -> float | int | None:
    """The number that ``value`` is: itself, or the only element of a constant tensor."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, fx.Node) and value.op == "get_attr":
        tensor = program.constant(value)
        if tensor.numel() == 1 and tensor.dtype != torch.bool:
            return tensor.item()
    return None


def _same_default(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return list(value) == list(default)
    if isinstance(value, (list, tuple)) and isinstance(default, int):
        return all(v == default for v in value)
    return not isinstance(value, fx.Node) and value == default


def _names(pattern: Call) -> str:
    return " or ".join(sorted(packet_name(p) for p in pattern.packets))


def _show(value: Any) -> str:
    if isinstance(value, fx.Node):
        if value.op == "call_function":
            return "getitem" if value.target is operator.getitem else packet_name(packet_of(value))
        return f"{'input' if value.op == 'placeholder' else 'constant'} {value.target}"
    return repr(value)
