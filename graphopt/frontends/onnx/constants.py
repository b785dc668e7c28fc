"""Initialisers and Constant nodes as tensors of an ``nn.Module``.

Float weights become parameters, so that an imported model trains; everything else becomes a buffer.
ONNX names with dots become nested modules: ``encoder.layer.0.weight`` keeps its name.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from graphopt.errors import InputError
from graphopt.frontends.onnx.dtypes import numpy_dtype, torch_dtype
from graphopt.frontends.onnx.values import Constant

_LITERAL_DIGITS = 5


def is_literal(array: np.ndarray, from_node: bool) -> bool:
    """Whether a single-element tensor is a number of a formula (the 3 and 6 of hard-swish, an epsilon).

    Literals reach ATen as Python scalars, which rewrite rules can read; other tensors are weights.
    A scalar (rank 0) Constant node is a literal.  Single-element tensors of other origin can be learnt
    scalars (PP-OCRv4 has dozens, of shape [1]); a number that was written by hand has a short decimal
    form, a learnt float32 almost never has one of five digits or fewer.
    """
    if array.size != 1 or array.dtype.kind not in "fiub":
        return False
    if array.dtype.kind != "f" or (from_node and array.ndim == 0):
        return True
    value = array.ravel()[0]
    if not np.isfinite(value):
        return True
    digits = np.format_float_scientific(value, unique=True, trim="-").split("e")[0]
    return len(digits.replace("-", "").replace(".", "")) <= _LITERAL_DIGITS


class ConstantStore:
    """Puts tensors into a module under readable, unique attribute names."""

    def __init__(self, module: nn.Module, statistics: Collection[str] = ()) -> None:
        """``statistics`` names float values that are no weights (running means and variances)."""
        self._module = module
        self._statistics = statistics
        self._taken: set[str] = set()

    def add(self, value_name: str, tensor: ir.TensorProtocol, *, from_node: bool = False) -> Constant:
        """Registers a tensor; external data stays memory-mapped (copy-on-write).

        Args:
            value_name: ONNX name of the value.
            from_node: the tensor stands in a Constant node, not in an initialiser.

        Raises:
            InputError: torch has no such element type, or the data is shorter than the shape needs.
        """
        dtype = torch_dtype(tensor.dtype, f"tensor {value_name!r}")
        data = _to_torch(tensor, dtype, value_name)
        shape = tuple(data.shape)
        array = data.numpy() if numpy_dtype(dtype) is not None else None
        literal = array is not None and is_literal(array, from_node)
        weight = not literal and value_name not in self._statistics
        trainable = weight and dtype.is_floating_point and dtype.itemsize >= 2
        target = self._place(value_name, nn.Parameter(data) if trainable else data)
        return Constant(value_name, target, dtype, shape, array, literal, trainable)

    def add_buffer(self, value_name: str, data: torch.Tensor) -> str:
        """Registers a buffer that importing computed; returns its attribute name."""
        return self._place(value_name, data)

    def remove_unused(self, used: Iterable[str]) -> None:
        """Drops the tensors that are not in ``used`` and the modules that this leaves empty."""
        for target in self._taken - set(used):
            owner, leaf = _owner(self._module, target)
            delattr(owner, leaf)
        self._taken &= set(used)

    def _place(self, value_name: str, tensor: torch.Tensor) -> str:
        target = self._unique(value_name)
        *path, leaf = target.split(".")
        owner = self._module
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(leaf, tensor)
        else:
            owner.register_buffer(leaf, tensor)
        return target

    def _unique(self, value_name: str) -> str:
        """A dotted attribute name for an ONNX name: every part valid, none taken or a prefix of another."""
        parts = [re.sub(r"\W", "_", p) or "_" for p in re.split(r"[./:]+", value_name.strip("./:"))]
        # Attributes of nn.Module itself ("weight" is fine, "forward" or "training" is not).
        base = ".".join(f"{p}_" if _reserved(p) else p for p in parts)
        candidate, count = base, 1
        while not self._free(candidate):
            count += 1
            candidate = f"{base}_{count}"
        self._taken.add(candidate)
        return candidate

    def _free(self, target: str) -> bool:
        if target in self._taken:
            return False
        parts = target.split(".")
        if any(".".join(parts[:i]) in self._taken for i in range(1, len(parts))):
            return False
        owner: Any = self._module
        for part in parts:
            if not hasattr(owner, part):
                return True
            owner = getattr(owner, part)
        return False


def _reserved(name: str) -> bool:
    """Whether generated code cannot say ``self.name``, or says something else with it."""
    return hasattr(nn.Module, name) or name == "training" or keyword.iskeyword(name)


def _owner(module: nn.Module, target: str) -> tuple[nn.Module, str]:
    path, _, leaf = target.rpartition(".")
    return module.get_submodule(path), leaf


def _to_torch(tensor: ir.TensorProtocol, dtype: torch.dtype, name: str) -> torch.Tensor:
    try:
        if isinstance(tensor, ir.ExternalTensor):
            return _map_external(tensor, dtype)
        array = tensor.numpy()
    except (ValueError, OSError) as error:
        raise InputError(f"the data of tensor {name!r} cannot be read: {error}", code="GO-3003") from error
    if numpy_dtype(dtype) is None and not dtype.is_complex:
        # bfloat16 and float8 come as ml_dtypes arrays, which torch takes only as raw integers.
        raw = np.ascontiguousarray(array).view(f"u{dtype.itemsize}")
        return torch.from_numpy(raw.copy()).view(dtype).reshape(array.shape)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _map_external(tensor: ir.ExternalTensor, dtype: torch.dtype) -> torch.Tensor:
    shape = tuple(tensor.shape.numpy())
    if tensor.size == 0:
        return torch.empty(shape, dtype=dtype)
    stored = numpy_dtype(dtype) or np.dtype(f"u{dtype.itemsize}")
    # Mode "c": writable for torch (which refuses read-only memory), yet never written to the file.
    array = np.memmap(tensor.path, dtype=stored, mode="c", offset=tensor.offset or 0, shape=shape)
    if not array.flags.aligned:
        array = array.copy()
    mapped = torch.from_numpy(array)
    return mapped if mapped.dtype == dtype else mapped.view(dtype)
