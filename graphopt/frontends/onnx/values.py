"""Values that flow between ONNX nodes while a model is imported.

A value is one of

* a ``torch.Tensor``, traced;
* a :class:`HostValue`: a small array known while importing, whose entries are Python numbers or
  *symbolic* numbers (``torch.SymInt``).  ``Shape -> Gather -> Concat -> Reshape`` stays in this form,
  so no node of the program ever reads a shape out of a tensor;
* a :class:`Constant`: an initialiser or Constant node, usable in both forms;
* a Python list of values (ONNX sequences), or None (an optional input that is absent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphopt.frontends.onnx.dtypes import from_numpy_dtype, numpy_dtype
from graphopt.frontends.onnx.limits import check_host_size

Number = int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def is_symbolic(number: Any) -> bool:
    """Whether a scalar depends on a dynamic size."""
    return isinstance(number, _SYMBOLIC)


def concrete(number: Any) -> Any:
    """A plain Python number where a symbolic one is in fact constant; otherwise ``number`` itself."""
    if isinstance(number, torch.SymInt):
        value = number.node.maybe_as_int()
        return number if value is None else value
    return number.item() if isinstance(number, np.generic) else number


@dataclass(frozen=True)
class HostValue:
    """An array known at import time.

    Attributes:
        array: of the numpy dtype of ``dtype`` when every entry is a plain number; of dtype object
            when an entry is symbolic.
        dtype: element type that the ONNX graph gives to the value.
    """

    array: np.ndarray
    dtype: torch.dtype

    @staticmethod
    def of(entries: Any, dtype: torch.dtype) -> HostValue:
        """Wraps numbers (scalar, nested list or array), symbolic or not, as ``dtype``."""
        array = entries if isinstance(entries, np.ndarray) else _object_array(entries)
        if array.dtype == object:
            flat = [concrete(e) for e in array.ravel()]
            if any(is_symbolic(e) for e in flat):
                return HostValue(_filled(flat, array.shape), dtype)
            array = np.array(flat, dtype=numpy_dtype(dtype)).reshape(array.shape)
        return HostValue(array.astype(numpy_dtype(dtype), copy=False), dtype)

    @staticmethod
    def from_numpy(array: np.ndarray) -> HostValue:
        return HostValue(array, from_numpy_dtype(array.dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return int(self.array.size)

    @property
    def symbolic(self) -> bool:
        return self.array.dtype == object

    def numbers(self) -> list[Any]:
        """The entries, row-major, as Python or symbolic numbers."""
        return [concrete(e) for e in self.array.ravel()]

    def number(self) -> Any:
        """The only entry.

        Raises:
            ValueError: there is not exactly one.
        """
        if self.size != 1:
            raise ValueError(f"expected one number, got an array of shape {self.shape}")
        return concrete(self.array.ravel()[0])

    def map(self, function: Callable[..., Any], *others: HostValue, dtype: torch.dtype) -> HostValue:
        """Applies ``function`` entrywise, with broadcasting, on Python or symbolic numbers."""
        check_host_size(np.broadcast_shapes(*(o.shape for o in (self, *others))))
        arrays = np.broadcast_arrays(*(o.array.astype(object) for o in (self, *others)))
        flat = [function(*row) for row in zip(*(a.ravel() for a in arrays), strict=True)]
        return HostValue.of(_filled(flat, arrays[0].shape), dtype)


@dataclass(frozen=True)
class Constant:
    """An initialiser or the tensor of a Constant node.

    Attributes:
        name: ONNX value name.
        target: where the importer's module holds the tensor (a dotted attribute name).
        dtype, shape: of the tensor.
        array: the data, in the tensor's own memory, or a few bfloat16 numbers as float32; None when
            numpy has no such dtype.
        literal: the tensor is a number of the model's formulas rather than a weight (see
            ``constants.is_literal``); elementwise operators take it as a Python scalar.
        trainable: a float tensor that becomes a parameter.
    """

    name: str
    target: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    array: np.ndarray | None
    literal: bool
    trainable: bool

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def host(self) -> HostValue | None:
        """The data as a host value; None for dtypes that numpy lacks."""
        return None if self.array is None else HostValue(self.array, self.dtype)


Value = torch.Tensor | HostValue | Constant | list[Any] | None


def type_of(tensor: torch.Tensor) -> str:
    """Dtype and sizes for a message: ``float32['batch', '3']``."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{[str(n) for n in tensor.shape]}"


def _object_array(entries: Any) -> np.ndarray:
    """A numpy object array of nested lists, leaving symbolic numbers unevaluated."""
    if not isinstance(entries, (list, tuple)):
        return _filled([entries], ())
    shape: list[int] = []
    level: Any = entries
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else None
    return _filled(_flatten(entries), tuple(shape))


def _flatten(entries: Iterable[Any]) -> list[Any]:
    flat: list[Any] = []
    for entry in entries:
        flat.extend(_flatten(entry) if isinstance(entry, (list, tuple)) else [entry])
    return flat


def _filled(flat: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    # np.array(list of SymInts) would call __int__ on them, which specialises the dynamic size.
    array = np.empty(len(flat), dtype=object)
    for index, entry in enumerate(flat):
        array[index] = entry
    return array.reshape(shape)
