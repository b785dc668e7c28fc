"""Bodies of operators that are defined by other operators.

Two kinds: functions of the model itself, and operators that the ONNX standard defines by a function
(``MeanVarianceNormalization``, ``CenterCropPad``, …).  Neither needs a converter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch

from graphopt.frontends.onnx.registry import normal_domain
from graphopt.frontends.onnx.values import Constant, HostValue, Value

if TYPE_CHECKING:
    from graphopt.frontends.onnx.call import Call

_ELEMENT_TYPE = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
    torch.int8: onnx.TensorProto.INT8,
    torch.int16: onnx.TensorProto.INT16,
    torch.int32: onnx.TensorProto.INT32,
    torch.int64: onnx.TensorProto.INT64,
    torch.uint8: onnx.TensorProto.UINT8,
    torch.uint16: onnx.TensorProto.UINT16,
    torch.uint32: onnx.TensorProto.UINT32,
    torch.uint64: onnx.TensorProto.UINT64,
    torch.bool: onnx.TensorProto.BOOL,
}


class Definitions:
    """Finds the function body of an operator."""

    def __init__(self, model: ir.Model) -> None:
        self._local = {(normal_domain(f.domain), f.name, f.overload): f for f in model.functions.values()}
        self._standard: dict[tuple[str, str, int], ir.Function] = {}

    def local(self, node: ir.Node) -> ir.Function | None:
        """The model's own function that ``node`` calls."""
        return self._local.get((normal_domain(node.domain), node.op_type, node.overload))

    def standard(self, domain: str, op_type: str, opset: int) -> ir.Function | None:
        """The body in the ONNX standard, where it depends on nothing but the operator-set version."""
        key = (normal_domain(domain), op_type, opset)
        if key not in self._standard:
            schema = _schema(*key)
            if schema is None or not schema.has_function:
                return None
            self._standard[key] = _function(schema.get_function_with_opset_version(opset))
        return self._standard[key]

    def has_body(self, node: ir.Node, opset: int) -> bool:
        if self.local(node) is not None or self.standard(node.domain, node.op_type, opset) is not None:
            return True
        schema = _schema(normal_domain(node.domain), node.op_type, opset)
        return schema is not None and schema.has_context_dependent_function

    def body(self, call: Call, inputs: Sequence[Value]) -> ir.Function:
        """The body for one call; some bodies depend on the types of the inputs.

        Raises:
            InputError: the standard defines none for these types.
        """
        found = self.local(call.node) or self.standard(call.domain, call.op_type, call.opset)
        if found is not None:
            return found
        schema = _schema(normal_domain(call.domain), call.op_type, call.opset)
        if schema is None or not schema.has_context_dependent_function:
            raise call.error("has neither a converter nor a function body")
        types = [_type(v).SerializeToString() for v in inputs]
        node = ir.to_proto(call.node).SerializeToString()
        data = schema.get_context_dependent_function_with_opset_version(call.opset, node, types)
        if not data:
            raise call.error("has no function body for inputs of these types")
        return _function(data)


def _schema(domain: str, op_type: str, opset: int) -> Any:
    """The operator's ``onnx.defs.OpSchema`` (whose type stubs lack most of it), or None."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _function(data: bytes) -> ir.Function:
    proto = onnx.FunctionProto()
    proto.ParseFromString(data)
    function = ir.from_proto(proto)
    assert isinstance(function, ir.Function)
    return function


def _type(value: Value) -> onnx.TypeProto:
    if not isinstance(value, (torch.Tensor, HostValue, Constant)):
        return onnx.TypeProto()
    shape = [int(s) if isinstance(s, int) else None for s in value.shape]
    return onnx.helper.make_tensor_type_proto(_ELEMENT_TYPE.get(value.dtype, 0), shape)
