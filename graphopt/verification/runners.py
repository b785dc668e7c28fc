"""Candidates as callables: flat torch tensors in, flat tuple of torch tensors out."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from graphopt.errors import GraphoptError, InputError, VerificationError
from graphopt.ir.program import Program

Runner = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


class OnnxRuntimeRunner:
    """An ONNX model in onnxruntime, on the CPU.

    Args:
        model: path of the file, or the serialised model.
        threads: intra-op threads.
        optimise: False switches onnxruntime's own graph optimisations off.

    Attributes:
        input_names, output_names: as in the file.

    Raises:
        InputError: onnxruntime cannot load the model.
    """

    def __init__(
        self, model: str | os.PathLike[str] | bytes, *, threads: int = 1, optimise: bool = True
    ) -> None:
        import onnxruntime as ort  # type: ignore[import-untyped]

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.name = "onnxruntime" if isinstance(model, bytes) else f"onnxruntime {Path(model).name}"
        source = model if isinstance(model, bytes) else str(model)
        try:
            self.session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            raise InputError(
                f"onnxruntime cannot load the model: {_first_line(error)}", code="GO-3002"
            ) from error
        self.input_names = [i.name for i in self.session.get_inputs()]
        self.output_names = [o.name for o in self.session.get_outputs()]
        ends = [*self.session.get_inputs(), *self.session.get_outputs()]
        self._bfloat16 = any(end.type == _BFLOAT16 for end in ends)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Runs the model."""
        given = [t.detach().contiguous() for t in inputs]
        if not self._bfloat16:
            feed = {n: t.numpy() for n, t in zip(self.input_names, given, strict=True)}
            return tuple(_from_numpy(np.array(y)) for y in self.session.run(None, feed))
        values = {n: _to_ort(t) for n, t in zip(self.input_names, given, strict=True)}
        return tuple(_from_ort(y) for y in self.session.run_with_ort_values(None, values))


def _from_numpy(array: np.ndarray) -> Tensor:
    """C has two names for 64 unsigned bits; torch knows one of them."""
    return torch.from_numpy(array.view(np.uint64) if array.dtype == np.uint64 else array)


_BFLOAT16 = "tensor(bfloat16)"


def _to_ort(tensor: Tensor) -> Any:
    """A value of onnxruntime's own; NumPy, which it takes otherwise, has no bfloat16."""
    import onnxruntime as ort

    if tensor.dtype != torch.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy(tensor.numpy())
    bits = tensor.view(torch.uint16).numpy()
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, 16)  # onnx.TensorProto.BFLOAT16


def _from_ort(value: Any) -> Tensor:
    if value.data_type() != _BFLOAT16:
        return _from_numpy(np.array(value.numpy()))
    shape = value.shape()
    if 0 in shape:
        return torch.empty(shape, dtype=torch.bfloat16)
    memory = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    return torch.from_numpy(np.frombuffer(memory, np.uint16).copy()).view(torch.bfloat16).reshape(shape)


def runner_of(candidate: Any) -> Runner:
    """How to run a candidate: a program, a graph module, an artifact or any callable.

    Raises (when it is called):
        VerificationError: the candidate fails, or returns something that is not tensors.
    """
    call: Callable[..., Any] = candidate
    name = describe(candidate)
    if not callable(call):
        raise InputError(f"{name} cannot be called; a candidate is a Program, an Artifact or a function")

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        try:
            with torch.no_grad():
                outputs = call(*[t.clone() for t in inputs])
        except GraphoptError:
            raise
        except Exception as error:
            raise VerificationError(f"{name} failed to run: {_first_line(error)}") from error
        if isinstance(outputs, Tensor | np.ndarray):
            outputs = (outputs,)
        return tuple(_tensor(y, name) for y in outputs)

    return run


def describe(candidate: Any) -> str:
    """A short name for messages."""
    if isinstance(candidate, Program):
        return "the program"
    if isinstance(candidate, fx.GraphModule):
        return "the graph"
    return str(
        getattr(candidate, "name", None) or getattr(candidate, "__name__", None) or type(candidate).__name__
    )


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray | np.generic | bool | int | float):
        return torch.from_numpy(np.ascontiguousarray(value).reshape(np.shape(value)).copy())
    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value).cpu()
    raise VerificationError(f"{name} returned a {type(value).__name__}, not a tensor")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
