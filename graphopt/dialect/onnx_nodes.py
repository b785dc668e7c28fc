"""Small pieces of ONNX graphs that the families' ONNX forms share (opset 18)."""

from __future__ import annotations

from typing import Any

OnnxValue = Any
"""An onnxscript value under construction, or None for an optional operand that is not given."""


def is_half(value: OnnxValue) -> bool:
    """Whether the value is float16 or bfloat16."""
    import onnx_ir

    return value.dtype in (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)


def to_opmath(value: OnnxValue) -> OnnxValue:
    """The value in float32 if it is half precision, else itself."""
    import onnx_ir
    from onnxscript import opset18 as op

    return op.Cast(value, to=onnx_ir.DataType.FLOAT) if is_half(value) else value


def scalar(number: float, like: OnnxValue) -> OnnxValue:
    """A 0-d constant in the dtype of ``like``, rounded once from the Python float."""
    import numpy as np
    import onnx_ir
    from onnxscript import opset18 as op

    array = np.array(number, dtype=like.dtype.numpy())
    return op.Constant(value=onnx_ir.tensor(array))


def integers(*numbers: int) -> OnnxValue:
    """A 1-d int64 constant."""
    from onnxscript import opset18 as op

    return op.Constant(value_ints=list(numbers))
