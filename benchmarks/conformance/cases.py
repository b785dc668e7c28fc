"""The backend tests that come with the onnx package, and their data as tensors."""

from __future__ import annotations

import functools
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.backend.test.loader import load_model_tests

SUITES = ("node", "simple", "pytorch-operator", "pytorch-converted")

_RAW = {"bfloat16": torch.bfloat16} | {
    name: getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
}
_CARRIED = {
    "int4": torch.int8,
    "uint4": torch.uint8,
    "int2": torch.int8,
    "uint2": torch.uint8,
    "float4_e2m1fn": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        suite: one of :data:`SUITES`.
        data_sets: pairs of inputs and expected outputs; arrays, lists of them (sequences) or None.
        rtol, atol: the tolerances that ONNX gives the test.
    """

    name: str
    suite: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        nodes = self.model.graph.node
        return nodes[0].op_type if len(nodes) == 1 else "(several)"


def case_names(suite: str, pattern: str = "") -> list[str]:
    """Names of the tests of a suite that match ``pattern``, without expanded variants; sorted."""
    return sorted(n for n in _found(suite) if "_expanded" not in n and re.search(pattern, n))


def case(suite: str, name: str) -> Case:
    """A test with its model and data.

    Raises:
        KeyError: the suite has no test of that name.
    """
    found = _found(suite)[name]
    if found.model is not None:
        return Case(name, suite, found.model, found.data_sets, found.rtol, found.atol)
    folder = Path(found.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = [
        (_stored(path, "input", model.graph.input), _stored(path, "output", model.graph.output))
        for path in sorted(folder.glob("test_data_set_*"))
    ]
    return Case(name, suite, model, sets, found.rtol, found.atol)


@functools.cache
def _found(suite: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        # Some test generators overflow on purpose.
        warnings.simplefilter("ignore")
        return {c.name: c for c in load_model_tests(kind=suite)}


def _stored(folder: Path, kind: str, values: Any) -> list[Any]:
    paths = sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.rpartition("_")[2]))
    loaded: list[Any] = []
    for path, value in zip(paths, values, strict=False):
        if value.type.HasField("sequence_type"):
            sequence = onnx.SequenceProto()
            sequence.ParseFromString(path.read_bytes())
            loaded.append(onnx.numpy_helper.to_list(sequence))
        else:
            tensor = onnx.TensorProto()
            tensor.ParseFromString(path.read_bytes())
            loaded.append(onnx.numpy_helper.to_array(tensor))
    return loaded


def as_array(value: Any) -> np.ndarray:
    """A tensor of a test as numpy has it (with ml_dtypes for the types that numpy lacks)."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def tensors(values: list[Any]) -> list[torch.Tensor]:
    """The tensors of inputs or outputs: a sequence is its elements, an optional may be nothing."""
    flat: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, list):
            flat += tensors(value)
        elif value is not None:
            flat.append(_tensor(as_array(value)))
    return flat


def is_carried(value: Any) -> bool:
    """Whether a value has an element type that torch lacks, which another one then carries."""
    if isinstance(value, list):
        return any(is_carried(v) for v in value)
    return value is not None and as_array(value).dtype.name in _CARRIED


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.name in _RAW:
        raw = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
        return torch.from_numpy(raw.copy()).view(_RAW[array.dtype.name]).reshape(array.shape)
    if array.dtype.name in _CARRIED:
        return torch.from_numpy(array.astype(np.float32)).to(_CARRIED[array.dtype.name])
    return torch.from_numpy(np.array(array, order="C"))
