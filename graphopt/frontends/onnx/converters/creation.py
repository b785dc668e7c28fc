"""Operators that make tensors from shapes and numbers."""

from __future__ import annotations

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import LOW_PRECISION, torch_dtype
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue


@op("ConstantOfShape", since=9, host=(0,))
def constant_of_shape(call: Call, shape: HostValue) -> torch.Tensor:
    call.check_rank(shape.size)
    tensor = call.tensor("value")
    if tensor is None:
        return torch.full(shape.numbers(), 0.0, dtype=torch.float32)
    dtype = torch_dtype(tensor.dtype, f"attribute 'value' of {call.name!r}")
    return torch.full(shape.numbers(), tensor.numpy().ravel()[0].item(), dtype=dtype)


@op("Range", since=11, default=HOST, ignores=("stash_type",))
def value_range(call: Call, start: HostValue, limit: HostValue, delta: HostValue) -> torch.Tensor:
    if start.dtype not in LOW_PRECISION:
        return torch.arange(start.number(), limit.number(), delta.number(), dtype=start.dtype)
    # Steps of half precision would add up their rounding.
    wide = torch_dtype(call.int("stash_type", 1), f"attribute 'stash_type' of {call.name!r}")
    return torch.arange(start.number(), limit.number(), delta.number(), dtype=wide).to(start.dtype)


@op("EyeLike", since=9)
def eye_like(call: Call, x: torch.Tensor) -> torch.Tensor:
    rows, columns = x.shape
    dtype = call.dtype("dtype", x.dtype)
    offset = call.int("k", 0)
    row = torch.arange(rows, device=x.device).unsqueeze(1)
    column = torch.arange(columns, device=x.device).unsqueeze(0)
    return (column - row == offset).to(dtype)


def _window(op_type: str, coefficients: tuple[float, ...]) -> None:
    @op(op_type, since=17, host=(0,))
    def cosine_sum(call: Call, size: HostValue) -> torch.Tensor:
        count = size.number()
        period = count if call.flag("periodic", True) else count - 1
        n = torch.arange(count, dtype=torch.float32)
        result = torch.zeros_like(n)
        for k, a in enumerate(coefficients):
            result = result + (-1) ** k * a * torch.cos(2 * torch.pi * k * n / period)
        return result.to(torch_dtype(call.int("output_datatype", 1), call.name))


_window("HannWindow", (0.5, 0.5))
_window("HammingWindow", (25 / 46, 21 / 46))
_window("BlackmanWindow", (0.42, 0.5, 0.08))
