"""Small pieces of ONNX graphs that the translations share."""

from __future__ import annotations

from typing import Any

OnnxValue = Any
"""A value of the ONNX graph under construction (an ``onnx_ir.Value``)."""


def operators(opset: int) -> Any:
    """The operators of an opset; untyped, because onnxscript's types say what values are, not nodes."""
    import onnxscript

    return getattr(onnxscript, f"opset{opset}")


def is_one(value: OnnxValue, axis: int) -> bool:
    """Whether the size of an axis is known to be 1."""
    return isinstance(value.shape[axis], int) and value.shape[axis] == 1


def ints(*numbers: int) -> OnnxValue:
    """A 1-d int64 constant."""
    return operators(18).Constant(value_ints=list(numbers))


def scalar(number: float, like: OnnxValue) -> OnnxValue:
    """A 0-d constant in the dtype of ``like``."""
    import numpy as np
    import onnx_ir

    array = np.array(number, dtype=like.dtype.numpy())
    return operators(18).Constant(value=onnx_ir.tensor(array))
