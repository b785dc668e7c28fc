"""Finds every operator of a model that the importer cannot evaluate, before it evaluates anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import onnx
import onnx_ir as ir

from graphopt.errors import InputError
from graphopt.frontends.onnx.functions import Definitions
from graphopt.frontends.onnx.registry import CONVERTERS, HOST_OPS, normal_domain

_NAMES_SHOWN = 5


def check_supported(model: ir.Model, definitions: Definitions) -> None:
    """Checks all nodes, in subgraphs and function bodies too.

    Raises:
        InputError: GO-3005, listing each unsupported operator with its count and its nodes' names.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    visited: set[int] = set()
    _visit(model.graph, model.opset_imports, definitions, missing, visited, "")
    if not missing:
        return
    total = sum(len(names) for names in missing.values())
    lines = [f"{total} node(s) of {len(missing)} operator(s) are not supported:"]
    for operator, names in sorted(missing.items(), key=lambda item: (-len(item[1]), item[0])):
        shown = ", ".join(names[:_NAMES_SHOWN])
        more = f", … ({len(names) - _NAMES_SHOWN} more)" if len(names) > _NAMES_SHOWN else ""
        lines.append(f"  {len(names):5d} × {operator}: {shown}{more}")
    first = next(iter(missing.values()))[0]
    raise InputError("\n".join(lines), code="GO-3005", node=first, layer=first)


def _visit(
    nodes: Iterable[ir.Node],
    opsets: Mapping[str, int],
    definitions: Definitions,
    missing: dict[str, list[str]],
    visited: set[int],
    prefix: str,
) -> None:
    versions = {normal_domain(d): v for d, v in opsets.items()}
    for node in nodes:
        name = prefix + (node.name or (str(node.outputs[0].name) if node.outputs else node.op_type))
        for attr in node.attributes.values():
            if attr.type == ir.AttributeType.GRAPH and not attr.is_ref():
                _visit(attr.as_graph(), opsets, definitions, missing, visited, f"{name}/")
        opset = versions.get(normal_domain(node.domain), 1)
        if _convertible(node, opset):
            continue
        function = definitions.local(node) or definitions.standard(node.domain, node.op_type, opset)
        if function is not None:
            if id(function) not in visited:
                visited.add(id(function))
                _visit(function, function.opset_imports, definitions, missing, visited, f"{name}/")
        elif not definitions.has_body(node, opset):
            domain = f"{node.domain}." if normal_domain(node.domain) else ""
            missing[f"{domain}{node.op_type} (opset {opset}{_unknown(node, opset)})"].append(name)


def _convertible(node: ir.Node, opset: int) -> bool:
    if node.op_type == "Constant" and normal_domain(node.domain) == "":
        return True
    return any(
        registry.find(node.domain, node.op_type, opset) is not None for registry in (CONVERTERS, HOST_OPS)
    )


def _unknown(node: ir.Node, opset: int) -> str:
    if normal_domain(node.domain):
        return ""
    try:
        onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return ", not an ONNX operator"
    return ""
