"""Small pieces of ONNX graphs that the families' ONNX forms share (opset 18)."""

from __future__ import annotations

from typing import Any

OnnxValue = Any
"""An onnxscript value under construction, or None for an optional operand that is not given."""


def is_half(operand: OnnxValue) -> bool:
    """Whether an operand is float16 or bfloat16."""
    import onnx_ir

    return operand.dtype in (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)


def opmath_type(operand: OnnxValue) -> Any:
    """The ONNX type that a form computes an operand in: float32 for half precision.

    Only operands have a known type; the results of nodes under construction have none yet.
    """
    import onnx_ir

    return onnx_ir.DataType.FLOAT if is_half(operand) else operand.dtype


def to_opmath(operand: OnnxValue) -> OnnxValue:
    """The operand in float32 if it is half precision, else itself."""
    from onnxscript import opset18 as op

    return op.Cast(operand, to=opmath_type(operand)) if is_half(operand) else operand


def scalar(number: float, dtype: Any) -> OnnxValue:
    """A 0-d constant of an ONNX type, rounded once from the Python float."""
    import numpy as np
    from onnx import numpy_helper
    from onnxscript import opset18 as op

    return op.Constant(value=numpy_helper.from_array(np.array(number, dtype=dtype.numpy())))


def positions(operand: OnnxValue, axis: int) -> OnnxValue:
    """``0, 1, …`` along an axis of an operand, int64."""
    from onnxscript import opset18 as op

    start, step = (op.Constant(value_int=n) for n in (0, 1))
    size: OnnxValue = op.Squeeze(op.Shape(operand, start=axis, end=axis + 1))
    return op.Range(start, size, step)


def integers(*numbers: int) -> OnnxValue:
    """A 1-d int64 constant."""
    from onnxscript import opset18 as op

    return op.Constant(value_ints=list(numbers))
