"""What must hold of a parsed file before the libraries that read it further are given it.

Protobuf accepts strings that are no text, negative dimensions, types that do not exist, and functions
that call themselves.  onnx, onnx-ir and torch meet them with errors of every kind, or with none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from graphopt.errors import InputError
from graphopt.frontends.onnx.limits import DEEPEST_CALLS, HIGHEST_RANK, MOST_NODES
from graphopt.frontends.onnx.registry import normal_domain

_ELEMENT_TYPES = frozenset(int(t) for t in ir.DataType if t != ir.DataType.UNDEFINED)


def vet(proto: onnx.ModelProto, what: str) -> None:
    """Checks names, tensors and functions of a model.

    Args:
        what: names the model in messages.

    Raises:
        InputError: GO-3003, something is malformed; GO-3006, there are too many nodes or axes, or
            subgraphs and functions are nested too deep.
    """
    for graph in graphs(proto):
        _check_text(graph, ("name",), what)
        for value in (*graph.input, *graph.output, *graph.value_info):
            _check_text(value, ("name",), what)
            for dim in value.type.tensor_type.shape.dim:
                _check_text(dim, ("dim_param",), what)
    for function in proto.functions:
        _check_text(function, ("name", "domain", "overload"), what)
        _check_texts([*function.input, *function.output, *function.attribute], "a function", what)
    for opset in proto.opset_import:
        _check_text(opset, ("domain",), what)
    if sum(1 for _ in nodes(proto)) > MOST_NODES:
        raise InputError(f"{what} has more than {MOST_NODES} nodes", code="GO-3006")
    for node in nodes(proto):
        _check_text(node, ("name", "op_type", "domain", "overload"), what)
        _check_texts([*node.input, *node.output], "a node", what)
        _check_attributes(node, what)
    for tensor in tensors(proto):
        _check_text(tensor, ("name",), what)
        _check_tensor(tensor, what)
    _check_functions(proto, what)
    _check_references(proto.graph, what)


# -- the parts of a model ------------------------------------------------------------------------


def graphs(proto: onnx.ModelProto) -> Iterator[GraphProto]:
    """The main graph and every subgraph, those in functions too."""
    waiting: list[GraphProto] = [proto.graph]
    waiting += [g for f in proto.functions for n in f.node for g in _subgraphs(n)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [g for n in graph.node for g in _subgraphs(n)]


def nodes(proto: onnx.ModelProto) -> Iterator[NodeProto]:
    """Every node, in subgraphs and functions too."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor: initialisers and attributes, the parts of sparse ones, in subgraphs and functions too."""
    sparse: list[SparseTensorProto] = []
    for graph in graphs(proto):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse += attribute.sparse_tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
    for item in sparse:
        yield from (item.values, item.indices)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


# -- checks --------------------------------------------------------------------------------------


def _check_text(message: object, fields: Sequence[str], what: str) -> None:
    try:
        _check_texts([getattr(message, field) for field in fields], f"a {type(message).__name__}", what)
    except UnicodeDecodeError:
        raise _not_text(f"a {type(message).__name__}", what) from None


def _check_texts(texts: Sequence[object], where: str, what: str) -> None:
    # Protobuf gives bytes where a string is no UTF-8.
    for text in texts:
        if not isinstance(text, str) or "\0" in text:
            raise _not_text(where, what)


def _not_text(where: str, what: str) -> InputError:
    return InputError(f"{what} is damaged: a name in {where} is not text", code="GO-3003")


def _check_attributes(node: NodeProto, what: str) -> None:
    seen: set[str] = set()
    for attribute in node.attribute:
        _check_text(attribute, ("name", "ref_attr_name"), what)
        if attribute.name in seen:
            raise InputError(
                f"{what} is not valid ONNX: {node.op_type} has attribute {attribute.name!r} twice",
                code="GO-3003",
                node=node.name or None,
            )
        seen.add(attribute.name)
        if attribute.type not in AttributeProto.AttributeType.values():
            raise InputError(
                f"{what} is damaged: attribute {attribute.name!r} of {node.op_type} has type "
                f"{attribute.type}",
                code="GO-3003",
                node=node.name or None,
            )


def _check_references(graph: GraphProto, what: str) -> None:
    """Only in a function can an attribute be that of a call."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise InputError(
                    f"{what} is not valid ONNX: attribute {attribute.name!r} of {node.op_type} refers to "
                    f"{attribute.ref_attr_name!r} of a function, and is in none",
                    code="GO-3003",
                    node=node.name or None,
                )
        for inner in _subgraphs(node):
            _check_references(inner, what)


def _check_tensor(tensor: TensorProto, what: str) -> None:
    name = tensor.name or "(unnamed)"
    if tensor.data_type not in _ELEMENT_TYPES:
        raise InputError(
            f"{what} is damaged: tensor {name!r} has element type {tensor.data_type}, which ONNX lacks",
            code="GO-3003",
        )
    if any(d < 0 for d in tensor.dims):
        raise InputError(
            f"{what} is damaged: tensor {name!r} has a negative dimension in {list(tensor.dims)[:8]}",
            code="GO-3003",
        )
    if len(tensor.dims) > HIGHEST_RANK:
        raise InputError(
            f"tensor {name!r} has {len(tensor.dims)} axes; at most {HIGHEST_RANK} are supported",
            code="GO-3006",
        )


def _check_functions(proto: onnx.ModelProto, what: str) -> None:
    """No function is defined twice or calls itself, and none is nested too deep."""
    bodies: dict[tuple[str, str, str], FunctionProto] = {}
    for function in proto.functions:
        key = (normal_domain(function.domain), function.name, function.overload)
        if key in bodies:
            raise InputError(f"{what} defines function {_label(key)} twice", code="GO-3003")
        bodies[key] = function
    depths: dict[tuple[str, str, str], int] = {}

    def depth_of(nodes_: Sequence[NodeProto], around: tuple[tuple[str, str, str], ...], level: int) -> int:
        if level > DEEPEST_CALLS:
            raise InputError(
                f"subgraphs and functions are nested more than {DEEPEST_CALLS} deep", code="GO-3006"
            )
        deepest = 0
        for node in nodes_:
            for graph in _subgraphs(node):
                deepest = max(deepest, 1 + depth_of(graph.node, around, level + 1))
            key = (normal_domain(node.domain), node.op_type, node.overload)
            if key in around:
                raise InputError(
                    f"function {_label(key)} calls itself", code="GO-3003", node=node.name or None
                )
            if key in bodies:
                if key not in depths:
                    depths[key] = depth_of(bodies[key].node, (*around, key), level + 1)
                deepest = max(deepest, 1 + depths[key])
        if level + deepest > DEEPEST_CALLS:
            raise InputError(
                f"subgraphs and functions are nested more than {DEEPEST_CALLS} deep", code="GO-3006"
            )
        return deepest

    depth_of(proto.graph.node, (), 0)
    for key, function in bodies.items():
        depths.setdefault(key, depth_of(function.node, (key,), 0))


def _label(key: tuple[str, str, str]) -> str:
    domain, name, overload = key
    return ".".join(part for part in (domain, name) if part) + (f":{overload}" if overload else "")
