"""Element types narrower than a byte, and how torch carries them.

torch computes on none of them.  Their values travel in the smallest type that holds them all: INT4 in
int8, FLOAT4E2M1 in float8_e4m3fn.  Only casts and quantisation need to know what a value really is;
everything else that ONNX allows on these types moves elements without looking at them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import torch


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


@functools.cache
def type_sources(domain: str, op_type: str, opset: int) -> tuple[str, ...] | None:
    """For each output of an operator, the type variable it has; then those of its inputs after ``"|"``."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    return (*(o.type_str for o in schema.outputs), "|", *(i.type_str for i in schema.inputs))


def inherited_type(
    domain: str, op_type: str, opset: int, output: int, inputs: list[ir.DataType | None]
) -> ir.DataType | None:
    """The packed type that an output has because the operator gives it the type of an input, or None."""
    names = type_sources(domain, op_type, opset)
    if names is None:
        return None
    bar = names.index("|")
    outputs, sources = names[:bar], names[bar + 1 :]
    variable = outputs[min(output, len(outputs) - 1)]
    for index, found in enumerate(inputs):
        if found is not None and sources[min(index, len(sources) - 1)] == variable:
            return found
    return None
