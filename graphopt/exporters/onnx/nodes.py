"""Small pieces of ONNX graphs that the translations share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

OnnxValue = Any
"""A value of the ONNX graph under construction (an ``onnx_ir.Value``)."""


def operators(opset: int) -> Any:
    """The operators of an opset; untyped, because onnxscript's types say what values are, not nodes."""
    import onnxscript

    known = getattr(onnxscript, f"opset{opset}", None)
    return known if known is not None else onnxscript.values.Opset("", opset)


def is_one(value: OnnxValue, axis: int) -> bool:
    """Whether the size of an axis is known to be 1."""
    return isinstance(value.shape[axis], int) and value.shape[axis] == 1


def is_double(value: OnnxValue) -> bool:
    import onnx_ir

    return bool(value.dtype == onnx_ir.DataType.DOUBLE)


def ints(*numbers: int) -> OnnxValue:
    """A 1-d int64 constant."""
    return operators(18).Constant(value_ints=list(numbers))


def scalar(number: float, like: OnnxValue) -> OnnxValue:
    """A 0-d constant in the dtype of ``like``."""
    import numpy as np
    import onnx_ir

    array = np.array(number, dtype=like.dtype.numpy())
    return operators(18).Constant(value=onnx_ir.tensor(array))


def expanded(sizes: Sequence[int], rank: int) -> list[int]:
    """A stride, pad or kernel for each spatial axis; torch takes one number for all."""
    return [int(s) for s in sizes] if len(sizes) == rank else [int(sizes[0])] * rank


def batched(form: Callable[[OnnxValue], OnnxValue], x: OnnxValue, rank: int) -> OnnxValue:
    """``form`` of x [N, C, *size]; where x is [C, *size] with ``rank`` sizes, of a batch of one."""
    if len(x.shape) == rank + 2:
        return form(x)
    op = operators(18)
    one = op.Unsqueeze(x, ints(0))
    one.dtype, one.shape = x.dtype, type(x.shape)([1, *x.shape])
    return op.Squeeze(form(one), ints(0))
