"""Nodes of types that ONNX or onnxruntime lacks, in types that carry the same values.

ONNX has no ``MatMul`` of int8 and no ``ArgMax`` of booleans; onnxruntime has no ``Where`` of booleans,
no ``Max`` of int16 and next to nothing of bfloat16.  Such a node gets a ``Cast`` before it and one
behind it where a wider type gives the same result to the bit; otherwise it stays as it is.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import DataType

from graphopt.exporters.onnx.inference import formal_type, infer_types, operands, schema_of, type_of_string
from graphopt.exporters.onnx.kernels import BFLOAT16_KERNELS, FLOAT8_KERNELS, KERNELS, Meaning

_FLOAT8 = frozenset(t for t in DataType if t.name.startswith("FLOAT8"))

_INTEGERS: dict[DataType, tuple[DataType, ...]] = {
    DataType.BOOL: (DataType.UINT8, DataType.INT32, DataType.INT64),
    DataType.INT8: (DataType.INT16, DataType.INT32, DataType.INT64),
    DataType.UINT8: (DataType.INT16, DataType.INT32, DataType.INT64),
    DataType.INT16: (DataType.INT32, DataType.INT64),
    DataType.UINT16: (DataType.INT32, DataType.UINT32, DataType.INT64),
    DataType.INT32: (DataType.INT64,),
    DataType.UINT32: (DataType.INT64,),
}
"""Integers with all values of a type, narrow ones first."""

_FLOATS: dict[DataType, tuple[DataType, ...]] = {
    **dict.fromkeys(
        (DataType.BOOL, DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16),
        (DataType.FLOAT, DataType.DOUBLE),
    ),
    **dict.fromkeys((DataType.INT32, DataType.UINT32), (DataType.DOUBLE,)),
}
"""Floats with all values of an integer type; for what does not compute."""


def carry(model: ir.Model, opset: int) -> None:
    """Gives nodes of the graph and its subgraphs types that have kernels; shapes and meaning stay.

    Args:
        model: valid but for types that operators do not take.
        opset: of the standard operators.
    """
    infer_types(model, opset)
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        schema = schema_of(node, opset)
        if schema is not None:
            _carry_node(node, schema)


def _carry_node(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    small = set() if node.op_type in BFLOAT16_KERNELS else {DataType.BFLOAT16}
    small |= set() if node.op_type in FLOAT8_KERNELS else _FLOAT8
    reduction = node.attributes.get("reduction")
    if node.op_type.startswith("Scatter") and reduction is not None and reduction.as_string() != "none":
        small |= {DataType.FLOAT16, DataType.BFLOAT16}  # onnxruntime only moves these
    for source in _types_of(node, schema, None) & small:
        _retype(node, source, DataType.FLOAT, None, schema)
    for kernel in KERNELS.get(node.op_type, ()):
        types = kernel.types & _allowed(schema, kernel.parameter)
        for source in _types_of(node, schema, kernel.parameter) - types:
            carrier, flipped = _carrier(source, kernel.meaning, types)
            if carrier is not None:
                _retype(node, source, carrier, kernel.parameter, schema, flipped)


def _types_of(node: ir.Node, schema: onnx.defs.OpSchema, parameter: str | None) -> set[DataType]:
    """The types of operands with a type parameter, or of all."""
    return {
        value.dtype
        for _, value, formal in operands(node, schema)
        if value.dtype is not None and parameter in (None, formal)
    }


def _allowed(schema: onnx.defs.OpSchema, parameter: str) -> set[DataType]:
    """What ONNX allows a type of an operator to be."""
    names = next(c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == parameter)
    return {type_of_string(name) for name in names if name.startswith("tensor(")}


def _carrier(source: DataType, meaning: Meaning, types: frozenset[DataType]) -> tuple[DataType | None, bool]:
    """The narrowest type with a kernel that carries integers, and whether its top bit is flipped."""
    if source == DataType.UINT64 and DataType.INT64 in types:
        return DataType.INT64, meaning is Meaning.ORDERS
    choices = _INTEGERS.get(source, ())
    if meaning is not Meaning.COMPUTES:
        choices += _FLOATS.get(source, ())
    return next((c for c in choices if c in types), None), False


def _retype(
    node: ir.Node,
    source: DataType,
    carrier: DataType,
    parameter: str | None,
    schema: onnx.defs.OpSchema,
    flipped: bool = False,
) -> None:
    """Casts operands of one type to another, and results of it back.

    Args:
        parameter: of the schema, that operands and results must have; None for all.
        flipped: order unsigned numbers as signed ones, by their top bit.
    """
    converted: dict[ir.Value, ir.Value] = {}
    for i, value, formal in list(operands(node, schema)):
        if value.dtype != source or parameter not in (None, formal):
            continue
        if value not in converted:
            converted[value] = _converted_before(node, value, carrier, flipped)
        node.replace_input_with(i, converted[value])
    for i, value in enumerate(node.outputs):
        if value.dtype == source and parameter in (None, formal_type(list(schema.outputs), i)):
            _convert_behind(node, value, source, carrier, flipped)


_TOP_BIT = np.array(-(2**63), dtype=np.int64)


def _converted_before(node: ir.Node, value: ir.Value, carrier: DataType, flipped: bool) -> ir.Value:
    graph = node.graph
    assert graph is not None
    cast = _cast(value, carrier, node)
    graph.insert_before(node, cast)
    if not flipped:
        return cast.outputs[0]
    constant, flip = _flip(cast.outputs[0], node)
    graph.insert_before(node, [constant, flip])
    return flip.outputs[0]


def _convert_behind(
    node: ir.Node, value: ir.Value, source: DataType, carrier: DataType, flipped: bool
) -> None:
    """Everyone who uses a result gets its conversion back, which takes its name."""
    graph = node.graph
    assert graph is not None
    nodes, wide = [], value
    if flipped:
        constant, flip = _flip(value, node)
        nodes, wide = [constant, flip], flip.outputs[0]
    back = _cast(wide, source, node)
    nodes.append(back)
    result = back.outputs[0]
    result.shape = value.shape
    ir.convenience.replace_all_uses_with(value, result, replace_graph_outputs=True)
    # The conversion itself is a user too.
    nodes[-2 if flipped else 0].replace_input_with(0, value)
    value.dtype = carrier
    result.name, value.name = value.name, f"{value.name}/{carrier.name.lower()}"
    graph.insert_after(node, nodes)


def _cast(value: ir.Value, to: DataType, origin: ir.Node) -> ir.Node:
    return _node("Cast", [value], to, value.shape, origin, {"to": to.value})


def _flip(value: ir.Value, origin: ir.Node) -> tuple[ir.Node, ir.Node]:
    top = _node("Constant", [], DataType.INT64, ir.Shape([]), origin, {"value": ir.tensor(_TOP_BIT)})
    flip = _node("BitwiseXor", [value, top.outputs[0]], DataType.INT64, value.shape, origin, {})
    return top, flip


def _node(
    op_type: str,
    inputs: list[ir.Value],
    dtype: DataType,
    shape: ir.Shape | None,
    origin: ir.Node,
    attributes: dict[str, int | ir.TensorProtocol],
) -> ir.Node:
    node = ir.node(op_type, inputs, attributes)
    node.outputs[0].dtype, node.outputs[0].shape = dtype, shape
    node.metadata_props.update(origin.metadata_props)
    return node
