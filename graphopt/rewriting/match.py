"""What a rule's ``check`` and ``rewrite`` see of a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.ir.program import Program
from graphopt.ir.provenance import merged_origin
from graphopt.ir.rewriter import Rewriter
from graphopt.rewriting.matcher import number_of


class Value:
    """A matched tensor: its node, and what is known of it without running the graph."""

    __slots__ = ("node", "_program")

    def __init__(self, node: fx.Node, program: Program) -> None:
        self.node = node
        self._program = program

    @property
    def fake(self) -> torch.Tensor:
        return self.node.meta["val"]

    @property
    def dtype(self) -> torch.dtype:
        return self.fake.dtype

    @property
    def shape(self) -> torch.Size:
        """Sizes; symbolic ones are ``SymInt``."""
        return self.fake.shape

    @property
    def rank(self) -> int:
        return self.fake.dim()

    @property
    def is_constant(self) -> bool:
        return self.node.op == "get_attr"

    @property
    def tensor(self) -> torch.Tensor:
        """The constant's data.

        Raises:
            KeyError: the value is not a constant.
        """
        if not self.is_constant:
            raise KeyError(f"{self.node.name} is computed, not a constant")
        return self._program.constant(self.node)

    @property
    def number(self) -> float | int | None:
        """The only element of a one-element constant, else None."""
        return number_of(self._program, self.node)

    @property
    def is_shared(self) -> bool:
        """Whether more than one node uses the value."""
        return len(self.node.users) > 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other.node is self.node

    def __hash__(self) -> int:
        return hash(self.node)

    def __repr__(self) -> str:
        return f"<{self.node.name}: {self.dtype}{list(self.shape)}>"


@dataclass(frozen=True)
class Verdict:
    """The answer of a rule's ``check``; ``reason`` says why not."""

    accepted: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.accepted


class Match:
    """One place where a pattern fits.

    Variables are attributes: ``match.x`` is a :class:`Value`, or the plain Python value where the
    pattern met a number, a list or None.
    """

    def __init__(
        self,
        program: Program,
        values: Mapping[str, Any],
        nodes: Sequence[fx.Node],
        results: Sequence[fx.Node],
        rule: str = "",
    ) -> None:
        self.program = program
        self.rule = rule
        self.bindings = {k: wrap(v, program) for k, v in values.items()}
        self.nodes = tuple(nodes)
        self.results = tuple(Value(n, program) for n in results)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["bindings"][name]
        except KeyError:
            raise AttributeError(f"the pattern has no variable {name!r}") from None

    @property
    def layer(self) -> str | None:
        """The user's layers that the match covers."""
        return merged_origin(self.nodes, self.rule).layer

    @property
    def result(self) -> Value:
        """The value that the pattern's (first) result has in the graph."""
        return self.results[0]

    def number(self, name: str) -> float | int | None:
        """A variable as a number: a Python number, or a constant tensor's only element."""
        value = self.bindings[name]
        return number_of(self.program, value.node if isinstance(value, Value) else value)

    def ok(self) -> Verdict:
        return Verdict(True)

    def fail(self, reason: str) -> Verdict:
        return Verdict(False, reason)


class Emitter:
    """The ``op`` of a rule's ``rewrite``: calls build nodes.

    ``op.clamp(x, 0.0, 6.0)`` picks the ATen overload as torch would; ``op.graphopt.NAME`` builds a
    dialect call; ``op.overload(torch.ops.aten.mean.dim, ...)`` names one exactly.
    """

    def __init__(self, rewriter: Rewriter, namespace: str = "aten") -> None:
        self._rewriter = rewriter
        self._namespace = namespace

    @property
    def graphopt(self) -> Emitter:
        from graphopt.dialect.registry import load

        load()

        return Emitter(self._rewriter, "graphopt")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        packet = getattr(getattr(torch.ops, self._namespace), name)

        def build(*args: Any, **kwargs: Any) -> Value:
            return self.overload(packet, *args, **kwargs)

        return build

    def overload(self, target: Any, *args: Any, **kwargs: Any) -> Value:
        """A call of exactly this operator."""
        node = self._rewriter.call(target, *unwrap(args), **unwrap(kwargs))
        return Value(node, self._rewriter.program)

    def constant(self, name: str, value: torch.Tensor) -> Value:
        """A new weight; its name gets a number when it is taken."""
        return Value(self._rewriter.constant(name, value), self._rewriter.program)

    def size(self, x: Value, axis: int) -> Any:
        """One size of ``x`` as an operand: a number, or a node where it is symbolic."""
        size = x.shape[axis]
        if isinstance(size, int):
            return size
        return self._rewriter.call(torch.ops.aten.sym_size.int, x.node, axis)


def wrap(value: Any, program: Program) -> Any:
    """Nodes of tensors become values; lists element by element.  A symbolic number stays a node."""
    if isinstance(value, fx.Node):
        if isinstance(value.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return value
        return Value(value, program)
    if isinstance(value, list):
        return [wrap(v, program) for v in value]
    return value


def unwrap(value: Any) -> Any:
    """The opposite of :func:`wrap`."""
    if isinstance(value, Value):
        return value.node
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(v) for v in value)
    if isinstance(value, dict):
        return {k: unwrap(v) for k, v in value.items()}
    return value
