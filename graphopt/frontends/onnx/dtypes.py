"""ONNX element types and their torch counterparts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx.packed_types import PACKED

_TORCH: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    **{element_type: packed.carrier for element_type, packed in PACKED.items()},
}

_ELEMENT_TYPE = {dtype: element for element, dtype in _TORCH.items() if element not in PACKED}

_NUMPY: dict[torch.dtype, np.dtype] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.uint32: np.dtype(np.uint32),
    torch.uint64: np.dtype(np.uint64),
    torch.bool: np.dtype(np.bool_),
}
_FROM_NUMPY: dict[np.dtype, torch.dtype] = {v: k for k, v in _NUMPY.items()}

LOW_PRECISION = frozenset({torch.float16, torch.bfloat16})


def torch_dtype(element_type: int | ir.DataType, what: str) -> torch.dtype:
    """The torch dtype of an ONNX element type; for 4-bit and 2-bit types the one that carries them.

    Raises:
        InputError: torch has no such type (strings); ``what`` names the tensor.
    """
    data_type = ir.DataType(element_type)
    if data_type not in _TORCH:
        raise InputError(f"{what} has element type {data_type.name}, which is not supported", code="GO-3006")
    return _TORCH[data_type]


def element_type(dtype: torch.dtype) -> ir.DataType:
    """The ONNX element type of a torch dtype that :func:`torch_dtype` returns."""
    return _ELEMENT_TYPE[dtype]


def numpy_dtype(dtype: torch.dtype) -> np.dtype | None:
    """The numpy dtype that holds ``dtype``, or None (bfloat16, float8, complex)."""
    return _NUMPY.get(dtype)


def from_numpy_dtype(dtype: np.dtype) -> torch.dtype:
    """The torch dtype of a numpy dtype that :func:`numpy_dtype` returns."""
    return _FROM_NUMPY[np.dtype(dtype)]
