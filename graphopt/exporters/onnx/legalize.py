"""Rewrites of the exported graph for what torch.onnx cannot translate where it stands."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from graphopt.ir.provenance import origin

aten = torch.ops.aten

ORIGIN = "graphopt"
"""Key in a node's ``meta["custom"]``, which torch carries through decompositions."""


def remember_origins(exported: ExportedProgram) -> None:
    """Put each node's origin where decompositions keep it."""
    for node in exported.graph.nodes:
        known = origin(node)
        custom: dict[str, Any] = dict(node.meta.get("custom") or {})
        custom[ORIGIN] = json.dumps([list(known.layers), list(known.made_by), str(node.target)])
        node.meta["custom"] = custom


def origin_of(node: fx.Node) -> tuple[list[str], list[str], str]:
    """Layers, rewrites and operator that a node of a prepared graph comes from."""
    known = (node.meta.get("custom") or {}).get(ORIGIN)
    layers, made_by, target = json.loads(known) if known else ([], [], str(node.target))
    return layers, made_by, target


def legalize(exported: ExportedProgram) -> None:
    """Rewrites calls in place; shapes and dtypes of results stay."""
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        if node.target in _LOGICAL and all(map(_is_boolean, node.args[:2])) and _is_boolean(node):
            # ONNX Add and Mul take no booleans; on booleans they are Or and And.
            node.target = _LOGICAL[node.target]
            node.kwargs = {}
    exported.graph_module.recompile()


_LOGICAL = {
    aten.add.Tensor: aten.logical_or.default,
    aten.mul.Tensor: aten.logical_and.default,
}


def _is_boolean(value: Any) -> bool:
    return (
        isinstance(value, fx.Node)
        and isinstance(value.meta.get("val"), torch.Tensor)
        and value.meta["val"].dtype == torch.bool
    )
