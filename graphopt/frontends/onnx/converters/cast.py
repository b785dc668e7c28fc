"""Casts and identities."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import element_type, torch_dtype
from graphopt.frontends.onnx.packed_types import PACKED, to_packed
from graphopt.frontends.onnx.registry import VALUE, op

_FLOAT8_MAX = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}


_FLOAT8_NAN_FROM = 464.0
"""Half way between the largest float8_e4m3fn and where the next one would be."""


def cast_to(x: torch.Tensor, dtype: torch.dtype, saturate: bool = True) -> torch.Tensor:
    """ONNX Cast to a type that torch has; float8 saturates unless the node says otherwise."""
    if x.dtype == dtype:
        return x
    if dtype == torch.bool:
        return x != 0
    limit = _FLOAT8_MAX.get(dtype)
    if limit is not None and x.dtype.is_floating_point:
        wide = x.float()
        if saturate:
            x = torch.clamp(wide, -limit, limit)
        elif dtype == torch.float8_e4m3fn:
            # torch saturates here; without saturation ONNX has NaN.
            x = torch.where(wide.abs() > _FLOAT8_NAN_FROM, float("nan"), wide)
    return x.to(dtype)


def to_e8m0(x: torch.Tensor, round_mode: str, saturate: bool) -> torch.Tensor:
    """Powers of two from 2^-127 to 2^127: the exponent of float32, rounded ``up``, ``down`` or ``nearest``.

    Without saturation what is outside is NaN.  Negative numbers are undefined.
    """
    bits = x.float().view(torch.int32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    # In the lowest binade float32 has no leading one: 2^-127 is the fraction one half.
    if round_mode == "up":
        more = torch.where(exponent == 0, fraction > 0x400000, fraction > 0)
    elif round_mode == "nearest":
        more = torch.where(exponent == 0, fraction >= 0x600000, fraction >= 0x400000)
    else:
        more = torch.zeros_like(bits, dtype=torch.bool)
    nan = torch.isnan(x)
    rounded = exponent + more
    if saturate:
        rounded = rounded.clamp(max=0xFE)
    else:
        nan = nan | ((exponent == 0) & (fraction < 0x400000))
    return torch.where(nan, 0xFF, rounded.clamp(max=0xFF)).to(torch.uint8).view(torch.float8_e8m0fnu)


def _cast(call: Call, x: torch.Tensor, target: ir.DataType) -> torch.Tensor:
    if target in PACKED:
        call.packed_output = target
        return x if call.packed_type(0) == target else to_packed(x, PACKED[target])
    dtype = torch_dtype(target, f"the result of {call.name!r}")
    saturate = call.flag("saturate", True)
    if dtype == torch.float8_e8m0fnu and x.dtype != dtype:
        return to_e8m0(x, call.str("round_mode", "up"), saturate)
    return cast_to(x, dtype, saturate)


@op("Cast", since=6, ignores=("round_mode", "saturate"))
def cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    target = call.element_type("to")
    if target is None:
        raise call.error("names no type to cast to")
    return _cast(call, x, target)


@op("CastLike", since=15, ignores=("round_mode", "saturate"))
def cast_like(call: Call, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return _cast(call, x, call.packed_type(1) or element_type(like.dtype))


@op("Identity", default=VALUE)
def identity(call: Call, x: Any) -> Any:
    return x


@op("BitCast", since=26)
def bit_cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The same bits as another type of the same width."""
    if call.element_type("to") in PACKED or call.packed_type(0) is not None:
        raise call.error("reads the bits of a 4-bit or 2-bit type, whose tensor only carries its values")
    dtype = call.dtype("to")
    if dtype is None or dtype.itemsize != x.dtype.itemsize:
        raise call.error(f"reads {x.dtype} as {dtype}, of another width")
    return x.view(dtype)
