"""Shifts, bits read as another type, and conversions to float8, whose rules for large numbers differ.

ONNX shifts unsigned integers only, and by less than their width; torch gives 0, or the sign, beyond it.
``BitCast`` came with opset 26.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnx_ir import DataType
from onnxscript.function_libs.torch_lib.ops import common

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, operators, scalar


def shift_left(x: OnnxValue, count: OnnxValue | int) -> OnnxValue:
    """``x * 2^count`` modulo the type's range; 0 where the count is not within the type's width."""
    op = operators(18)
    width = _width(x.dtype)
    bits = _as_unsigned(x)
    if isinstance(count, int):
        if not 0 <= count < width:
            return op.Mul(x, scalar(0, x))
        return _as(op.BitShift(bits, _constant(count, _unsigned(x.dtype)), direction="LEFT"), x.dtype)
    beyond, within = _within(count, width - 1, 0)
    shifted = op.BitShift(bits, op.Cast(within, to=_unsigned(x.dtype)), direction="LEFT")
    return op.Where(beyond, scalar(0, x), _as(shifted, x.dtype))


def shift_right(x: OnnxValue, count: OnnxValue | int) -> OnnxValue:
    """``x / 2^count`` towards minus infinity: the sign comes in from the left.

    Negative numbers are shifted as their complements, which are not.
    """
    op = operators(18)
    width = _width(x.dtype)
    if isinstance(count, int):
        count = _constant(count, DataType.INT64)
    beyond, within = _within(count, width - 1, width - 1)
    places = op.Cast(within, to=_unsigned(x.dtype))
    if not x.dtype.is_signed():
        return op.Where(beyond, scalar(0, x), op.BitShift(x, places, direction="RIGHT"))
    negative = op.Less(x, scalar(0, x))
    size = op.Cast(op.Where(negative, op.BitwiseNot(x), x), to=_unsigned(x.dtype))
    shifted = _as(op.BitShift(size, places, direction="RIGHT"), x.dtype)
    return op.Where(negative, op.BitwiseNot(shifted), shifted)


def _within(count: OnnxValue, last: int, instead: int) -> tuple[OnnxValue, OnnxValue]:
    """Whether counts are not in ``[0, last]``, and the counts, those replaced."""
    op = operators(18)
    wide = count if count.dtype == DataType.INT64 else op.Cast(count, to=DataType.INT64)
    low, high, other = (_constant(n, DataType.INT64) for n in (0, last, instead))
    beyond = op.Or(op.Less(wide, low), op.Greater(wide, high))
    return beyond, op.Where(beyond, other, wide)


def view_dtype(x: OnnxValue, dtype: int) -> OnnxValue:
    """The same bits as another type of the same width.

    Integers of one width are converted by wrapping, which ONNX defines ``Cast`` to do.
    """
    op = operators(18)
    source, target = x.dtype, DataType(dtype)
    if source == target:
        return op.Identity(x)
    if source.itemsize != target.itemsize:
        raise InputError(
            f"reading {source.name} as {target.name}, of another width, has no ONNX form", code="GO-3006"
        )
    if is_a_cast(source, target):
        return op.Cast(x, to=target)
    if DataType.FLOAT8E8M0 in (source, target):
        return _view_e8m0(x, source, target)
    if source == DataType.BOOL:
        x, source = op.Cast(x, to=DataType.UINT8), DataType.UINT8
    if target == DataType.BOOL:
        return op.Cast(_bit_cast(x, DataType.UINT8), to=target)
    return _bit_cast(x, target)


def is_a_cast(source: DataType, target: DataType) -> bool:
    """Whether reading the bits of one type as another of its width is what ``Cast`` does."""
    whole = {source, target} - {DataType.BOOL}
    return source == target or all(t.is_integer() for t in whole)


_E8M0_LOWEST = 0x00400000
"""The bits of 2^-127 in float32, which is subnormal; other powers of two are an exponent alone."""


def _view_e8m0(x: OnnxValue, source: DataType, target: DataType) -> OnnxValue:
    """Between float8_e8m0's exponents and its numbers, by way of float32; onnxruntime only converts it."""
    op = operators(18)
    if source == DataType.FLOAT8E8M0:
        bits = _bit_cast(op.Cast(x, to=DataType.FLOAT), DataType.INT32)
        exponent = op.Div(bits, _constant(1 << 23, DataType.INT32))
        return op.Cast(op.Cast(exponent, to=DataType.UINT8), to=target)
    exponent = op.Cast(op.Cast(x, to=DataType.UINT8), to=DataType.INT32)
    bits = op.Mul(exponent, _constant(1 << 23, DataType.INT32))
    lowest = op.Equal(exponent, _constant(0, DataType.INT32))
    bits = op.Where(lowest, _constant(_E8M0_LOWEST, DataType.INT32), bits)
    number = _bit_cast(bits, DataType.FLOAT)
    nan = op.Equal(exponent, _constant(255, DataType.INT32))
    number = op.Where(nan, op.Constant(value_float=math.nan), number)
    return op.Cast(number, to=target)


_E5M2_INFINITE = 61440.0
"""From here on float8_e5m2 rounds to infinity; onnxruntime 1.31 makes NaN of what is little larger."""


def cast(x: OnnxValue, dtype: int) -> OnnxValue:
    """Conversion as torch has it: float8_e4m3fn saturates, its siblings become infinite or NaN."""
    op = operators(19)
    target = DataType(dtype)
    if x.dtype == target:
        return op.Identity(x)
    if target == DataType.FLOAT8E5M2 and x.dtype.is_floating_point():
        infinite = op.GreaterOrEqual(op.Abs(x), scalar(_E5M2_INFINITE, x))
        x = op.Where(infinite, op.Mul(x, scalar(math.inf, x)), x)
    if target in (DataType.FLOAT8E5M2, DataType.FLOAT8E5M2FNUZ, DataType.FLOAT8E4M3FNUZ):
        return op.Cast(x, to=target, saturate=0)
    return common.cast_to(x, target)  # complex numbers too


def to_dtype(
    x: OnnxValue, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: int | None = None
) -> OnnxValue:
    """``aten.to.dtype``."""
    return cast(x, dtype)


def to_copy(x: OnnxValue, *, dtype: int = -1, **_: Any) -> OnnxValue:
    """``aten._to_copy``; layout, device and memory format are no matter of ONNX."""
    return operators(18).Identity(x) if dtype == -1 else cast(x, dtype)


def convert_element_type(x: OnnxValue, dtype: int) -> OnnxValue:
    """``prims.convert_element_type``."""
    return cast(x, dtype)


def _bit_cast(x: OnnxValue, to: DataType) -> OnnxValue:
    return operators(26).BitCast(x, to=to)


def _width(dtype: DataType) -> int:
    return 8 * int(dtype.itemsize)


def _unsigned(dtype: DataType) -> DataType:
    return DataType[f"UINT{_width(dtype)}"]


def _as_unsigned(x: OnnxValue) -> OnnxValue:
    return _as(x, _unsigned(x.dtype)) if x.dtype.is_signed() else x


def _as(x: OnnxValue, dtype: DataType) -> OnnxValue:
    return operators(18).Cast(x, to=dtype)


def _constant(number: int, dtype: DataType) -> OnnxValue:
    return operators(18).Constant(value=ir.tensor(number, dtype=dtype))
