"""Casts and identities."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import VALUE, op

_FLOAT8_MAX = {
    torch.float8_e4m3fn: 448.0,
    torch.float8_e4m3fnuz: 240.0,
    torch.float8_e5m2: 57344.0,
    torch.float8_e5m2fnuz: 57344.0,
}


def cast_to(x: torch.Tensor, dtype: torch.dtype, saturate: bool = True) -> torch.Tensor:
    """ONNX Cast; float8 saturates unless the node says otherwise."""
    if x.dtype == dtype:
        return x
    if dtype == torch.bool:
        return x != 0
    limit = _FLOAT8_MAX.get(dtype)
    if limit is not None and saturate and x.dtype.is_floating_point:
        x = torch.clamp(x.float(), -limit, limit)
    return x.to(dtype)


@op("Cast", since=6, ignores=("round_mode",))
def cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    dtype = call.dtype("to")
    if dtype is None:
        raise call.error("names no type to cast to")
    return cast_to(x, dtype, call.flag("saturate", True))


@op("CastLike", since=15, ignores=("round_mode",))
def cast_like(call: Call, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return cast_to(x, target.dtype, call.flag("saturate", True))


@op("Identity", default=VALUE)
def identity(call: Call, x: Any) -> Any:
    return x


@op("BitCast", since=26)
def bit_cast(call: Call, x: torch.Tensor) -> torch.Tensor:
    """The same bits as another type of the same width."""
    dtype = call.dtype("to")
    if dtype is None or dtype.itemsize != x.dtype.itemsize:
        raise call.error(f"reads {x.dtype} as {dtype}, of another width")
    return x.view(dtype)
