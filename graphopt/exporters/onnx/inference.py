"""Types of values from the schemas of the operators that make them.

While torch.onnx builds its graph only the values of ATen calls have types, and onnx's own inference
gives up on a node that has a type which its operator does not take.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
from onnx_ir import DataType


def infer_types(model: ir.Model, opset: int) -> None:
    """Types of values that have none, where schemas tell."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        schema = schema_of(node, opset)
        if schema is not None:
            _infer_types(node, schema)


def schema_of(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    # Control flow takes every type and says so by its bodies.
    has_body = any(
        a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
    )
    if node.domain or has_body or not onnx.defs.has(node.op_type, opset):
        return None
    return onnx.defs.get_schema(node.op_type, opset)


def formal_type(formals: list[onnx.defs.OpSchema.FormalParameter], i: int) -> str:
    """The type string of an operand or result; the last formal one may stand for many."""
    return formals[min(i, len(formals) - 1)].type_str


def operands(node: ir.Node, schema: onnx.defs.OpSchema) -> Iterator[tuple[int, ir.Value, str]]:
    for i, value in enumerate(node.inputs):
        if value is not None:
            yield i, value, formal_type(list(schema.inputs), i)


def _infer_types(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    """Types of results that are the operands' or the operator's only ones."""
    bound = {parameter: value.dtype for _, value, parameter in operands(node, schema) if value.dtype}
    only = {
        c.type_param_str: next(iter(c.allowed_type_strs))
        for c in schema.type_constraints
        if len(c.allowed_type_strs) == 1
    }
    for i, value in enumerate(node.outputs):
        if value.dtype is not None:
            continue
        parameter = formal_type(list(schema.outputs), i)
        name = only.get(parameter, parameter)
        if node.op_type == "Cast":
            value.dtype = DataType(node.attributes["to"].as_int())
        elif parameter in bound:
            value.dtype = bound[parameter]
        elif name.startswith("tensor("):
            value.dtype = type_of_string(name)


def type_of_string(name: str) -> DataType:
    """``tensor(int64)`` as a type."""
    return DataType[name.removeprefix("tensor(").removesuffix(")").upper()]
