"""Element types narrower than a byte, and how torch carries them.

torch computes on none of them.  Their values travel in the smallest type that holds them all: INT4 in
int8, FLOAT4E2M1 in float8_e4m3fn.  Only casts and quantisation need to know what a value really is;
everything else that ONNX allows on these types moves elements without looking at them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import torch

from graphopt.frontends.onnx.registry import normal_domain

if TYPE_CHECKING:
    from graphopt.frontends.onnx.call import Call


@dataclass(frozen=True)
class Packed:
    """A type of 2 or 4 bits.

    Attributes:
        carrier: the torch dtype of its values.
        low, high: its range.
    """

    carrier: torch.dtype
    low: int
    high: int


PACKED: dict[ir.DataType, Packed] = {
    ir.DataType.INT4: Packed(torch.int8, -8, 7),
    ir.DataType.UINT4: Packed(torch.uint8, 0, 15),
    ir.DataType.INT2: Packed(torch.int8, -2, 1),
    ir.DataType.UINT2: Packed(torch.uint8, 0, 3),
    ir.DataType.FLOAT4E2M1: Packed(torch.float8_e4m3fn, -6, 6),
}


def to_packed(x: torch.Tensor, target: Packed) -> torch.Tensor:
    """ONNX Cast: integers keep their low bits, floats lose their fraction first.

    FLOAT4E2M1 is rounded to the nearest value, halves to even, and saturates.
    """
    if target.carrier.is_floating_point:
        return _to_float4(x).to(target.carrier)
    # What a float beyond int64 becomes is undefined.
    whole = x.float().to(torch.int64) if x.dtype.is_floating_point else x.to(torch.int64)
    low_bits = whole & (target.high - target.low)
    if target.low < 0:
        low_bits = torch.where(low_bits > target.high, low_bits - (target.high - target.low + 1), low_bits)
    return low_bits.to(target.carrier)


def _to_float4(x: torch.Tensor) -> torch.Tensor:
    """One mantissa bit: steps of a half below 2, of one below 4, of two up to 6."""
    wide = x.float()
    size = wide.abs().clamp(max=6.0)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    rounded = torch.sign(wide) * torch.round(size / step) * step
    # The type has no NaN.
    return torch.where(torch.isnan(wide), 0.0, rounded)


class PackedTypes:
    """Which values of a graph have such a type."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, ir.DataType] = {}

    def of(self, value: ir.Value) -> ir.DataType | None:
        """The element type of a value that its tensor only carries; None for all other values."""
        if value in self._known:
            return self._known[value]
        dtype = value.const_value.dtype if value.const_value is not None else None
        if dtype is None and value.producer() is None and isinstance(value.type, ir.TensorType):
            dtype = value.type.dtype
        return dtype if dtype in PACKED else None

    def set(self, value: ir.Value, element_type: ir.DataType) -> None:
        self._known[value] = element_type

    def pass_on(self, call: Call) -> None:
        """Finds the types of a node's outputs after its evaluation: what it declares, or what it inherits.

        Raises:
            InputError: GO-3006, an operator with a body takes such a value; the body would not know.
        """
        node = call.node
        if call.packed_output is not None:
            self._known[node.outputs[0]] = call.packed_output
            return
        given = [None if v is None else self.of(v) for v in node.inputs]
        if not any(given):
            return
        if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            raise call.error("passes 4-bit or 2-bit numbers to its body, which is not supported")
        for index, value in enumerate(node.outputs):
            found = _inherited(call, index, given)
            if found is not None:
                self._known[value] = found


def _inherited(call: Call, output: int, inputs: list[ir.DataType | None]) -> ir.DataType | None:
    """The type that an output has because the standard gives it the type of an input."""
    schema = _type_variables(normal_domain(call.domain), call.op_type, call.opset)
    if schema is None:
        return None
    outputs, sources = schema
    variable = outputs[min(output, len(outputs) - 1)]
    for index, found in enumerate(inputs):
        if found is not None and sources[min(index, len(sources) - 1)] == variable:
            return found
    return None


@functools.cache
def _type_variables(domain: str, op_type: str, opset: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names of the types of an operator's outputs and inputs, such as T1; equal names, equal types."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    return tuple(o.type_str for o in schema.outputs), tuple(i.type_str for i in schema.inputs)
