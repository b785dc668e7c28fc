"""Division rounded down or towards zero in ONNX.

torch.onnx 2.13 writes ``floor(x / y)``, which is one too much where the quotient is rounded up to a whole
number: 1 by 0.1 is 9, since 0.1 is a little more than a tenth.
"""

from __future__ import annotations

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, operators, scalar
from graphopt.exporters.onnx.pointwise import floating


def div_mode(x: OnnxValue, y: OnnxValue | float, *, rounding_mode: str | None = None) -> OnnxValue:
    """``torch.div``; operands have been promoted to one type, unless ``y`` is a number."""
    op = operators(18)
    if rounding_mode == "floor":
        return floor_divide(x, y)
    x, y = _operands(x, y, rounding_mode is None)
    quotient = op.Div(x, y)
    if rounding_mode is None or not x.dtype.is_floating_point():
        return quotient  # of integers it is C's already
    if rounding_mode != "trunc":
        raise InputError(f"division has no rounding_mode {rounding_mode!r}", code="GO-3006")
    return op.Where(op.Less(quotient, scalar(0.0, x)), op.Ceil(quotient), op.Floor(quotient))


def floor_divide(x: OnnxValue, y: OnnxValue | float) -> OnnxValue:
    """Python's ``//``; of floats the quotient of the exact remainder, as ``c10::div_floor_floating``."""
    op = operators(18)
    x, y = _operands(x, y, False)
    if not x.dtype.is_floating_point():
        return op.Div(op.Sub(x, op.Mod(x, y)), y)
    zero, one, half = (scalar(number, x) for number in (0.0, 1.0, 0.5))
    rest = op.Mod(x, y, fmod=1)
    quotient = op.Div(op.Sub(x, rest), y)
    below = op.And(op.Not(op.Equal(rest, zero)), op.Xor(op.Less(y, zero), op.Less(rest, zero)))
    quotient = op.Where(below, op.Sub(quotient, one), quotient)
    floor = op.Floor(quotient)
    floor = op.Where(op.Greater(op.Sub(quotient, floor), half), op.Add(floor, one), floor)
    return op.Where(op.Equal(y, zero), op.Div(x, y), floor)


def _operands(x: OnnxValue, y: OnnxValue | float, true_division: bool) -> tuple[OnnxValue, OnnxValue]:
    """Both in one type: a float where a number is one, or where quotients always are."""
    if not isinstance(y, bool | int | float):
        return (_floating(x), _floating(y)) if true_division else (x, y)
    x = _floating(x) if true_division or isinstance(y, float) else x
    return x, scalar(y, x)


def _floating(x: OnnxValue) -> OnnxValue:
    import onnx_ir

    y = floating(x)
    y.dtype = x.dtype if y is x else onnx_ir.DataType.FLOAT
    return y
