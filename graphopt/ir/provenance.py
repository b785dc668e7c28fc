"""Where each node comes from: the user's layer, and the rewrites that led to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx

_KEY = "graphopt_origin"


@dataclass(frozen=True)
class Origin:
    """The origin of one node.

    Attributes:
        layers: the user's own names: module paths, or ONNX node names.  A node that stands for
            several (a fused one) lists them all.
        made_by: the rewrites that made it, oldest first, each ``"pass/rule"``.
    """

    layers: tuple[str, ...] = ()
    made_by: tuple[str, ...] = ()

    @property
    def layer(self) -> str | None:
        """One line for error messages."""
        if not self.layers:
            return None
        more = f" (and {len(self.layers) - 3} more)" if len(self.layers) > 3 else ""
        return ", ".join(self.layers[:3]) + more


@dataclass(frozen=True)
class RewriteEvent:
    """One application of a rule: which nodes went and which came."""

    pass_name: str
    rule: str
    erased: tuple[str, ...]
    created: tuple[str, ...]


@dataclass
class ProvenanceLog:
    """Every rewrite that a program has seen, in order."""

    events: list[RewriteEvent] = field(default_factory=list)

    def copy(self) -> ProvenanceLog:
        return ProvenanceLog(list(self.events))

    def to_list(self) -> list[dict[str, Any]]:
        return [
            {"pass": e.pass_name, "rule": e.rule, "erased": list(e.erased), "created": list(e.created)}
            for e in self.events
        ]

    @staticmethod
    def from_list(data: Iterable[dict[str, Any]]) -> ProvenanceLog:
        return ProvenanceLog(
            [RewriteEvent(d["pass"], d["rule"], tuple(d["erased"]), tuple(d["created"])) for d in data]
        )


def origin(node: fx.Node) -> Origin:
    """The origin of ``node``; read from torch's own metadata when graphopt has not set one yet."""
    known = node.meta.get(_KEY)
    if known is None:
        known = _from_torch_metadata(node)
        node.meta[_KEY] = known
    return known


def set_origin(node: fx.Node, value: Origin) -> None:
    node.meta[_KEY] = value


def merged_origin(nodes: Iterable[fx.Node], made_by: str) -> Origin:
    """The origin of a node that replaces ``nodes``."""
    layers: dict[str, None] = {}
    history: dict[str, None] = {}
    for node in nodes:
        source = origin(node)
        layers.update(dict.fromkeys(source.layers))
        history.update(dict.fromkeys(source.made_by))
    return Origin(tuple(layers), (*history, made_by))


def with_history(value: Origin, made_by: str) -> Origin:
    return replace(value, made_by=(*value.made_by, made_by))


def _from_torch_metadata(node: fx.Node) -> Origin:
    custom = node.meta.get("custom") or {}
    if "onnx_layers" in custom:
        return Origin(
            tuple(custom["onnx_layers"].split(", ")),
            tuple(m for m in custom["onnx_made_by"].split(", ") if m),
        )
    if "onnx_node" in custom:
        return Origin((str(custom["onnx_node"]),))
    stack = node.meta.get("nn_module_stack")
    if stack:
        path, _ = list(stack.values())[-1]
        path = str(path).removeprefix("L['self'].").removeprefix("L__self__.")
        if path and not path.startswith("_"):
            return Origin((path,))
    if node.op == "get_attr":
        return Origin((str(node.target),))
    return Origin()
