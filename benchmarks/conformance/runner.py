"""One test on two paths: import and run eagerly; and import, export, run in onnxruntime."""

from __future__ import annotations

import ctypes
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from benchmarks.conformance.cases import Case, as_array, is_carried, tensors
from graphopt.errors import GraphoptError
from graphopt.exporters.onnx import to_onnx
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.onnx.dtypes import element_type
from graphopt.ir.program import Program

PASSED = ("dynamic", "bound", "carried")
Run = Callable[[list[torch.Tensor]], list[torch.Tensor]]


@dataclass
class Outcome:
    """How one test ended.

    Attributes:
        status: ``dynamic`` (passes as it is), ``bound`` (passes with what must be known while importing:
            a shape or an axis as a constant, the length of a sequence), ``carried`` (passes with values of
            4 or 2 bits carried by a wider type), unsupported (a documented error), mismatch or crash.
        detail: the error, or the largest difference.
        export: of the second path: passed, refused (by the exporter), runtime (onnxruntime cannot run it),
            mismatch, crash; empty where the path was not taken.
    """

    name: str
    suite: str
    op: str
    status: str
    detail: str = ""
    export: str = ""
    export_detail: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.status in PASSED


class _Mismatch(Exception):
    pass


def run_case(case: Case, *, through_export: bool = False) -> Outcome:
    """Imports the test's model, runs it and compares with each of its data sets.

    Args:
        through_export: where that passes, also export the program and run it in onnxruntime.
    """
    start = time.perf_counter()
    outcome = Outcome(case.name, case.suite, case.operator, "dynamic")
    try:
        _first_path(case, outcome)
    except _Mismatch as error:
        outcome.status, outcome.detail = "mismatch", str(error)
    except GraphoptError as error:
        outcome.status, outcome.detail = "unsupported", f"{error.code} {error.message.splitlines()[-1]}"
    except Exception as error:  # the point of the run is to find these
        outcome.status, outcome.detail = "crash", f"{type(error).__name__}: {str(error)[:200]}"
    if through_export and outcome.passed:
        try:
            _second_path(case)
            outcome.export = "passed"
        except _Mismatch as error:
            outcome.export, outcome.export_detail = "mismatch", str(error)
        except GraphoptError as error:
            outcome.export, outcome.export_detail = "refused", f"{error.code} {error.message[:200]}"
        except Exception as error:
            kind = "runtime" if "onnxruntime" in type(error).__module__ else "crash"
            outcome.export, outcome.export_detail = kind, f"{type(error).__name__}: {str(error)[:200]}"
    outcome.seconds = round(time.perf_counter() - start, 3)
    return outcome


def _first_path(case: Case, outcome: Outcome) -> None:
    for given, expected in case.data_sets:
        program, feeds, bound = _program(case, given)

        def eager(values: list[torch.Tensor], program: Program = program) -> list[torch.Tensor]:
            with torch.no_grad():
                return list(program(*values))

        _compare(case, eager, feeds, expected)
        if any(is_carried(v) for v in (*given, *expected)):
            outcome.status = "carried"
        elif bound:
            outcome.status = "bound"


def _second_path(case: Case) -> None:
    given, expected = case.data_sets[0]
    program, feeds, _ = _program(case, given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        to_onnx(program, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [s.name for s in program.signature.inputs]
    kept = {i.name for i in session.get_inputs()}

    def runtime(values: list[torch.Tensor]) -> list[torch.Tensor]:
        feed = {n: _ort_value(v) for n, v in zip(names, values, strict=True) if n in kept}
        found = session.run_with_ort_values([s.name for s in program.signature.outputs], feed)
        return [_from_ort(v, s.dtype) for v, s in zip(found, program.signature.outputs, strict=True)]

    _compare(case, runtime, feeds, expected)


def _program(case: Case, given: list[Any]) -> tuple[Program, list[torch.Tensor], bool]:
    """The program, what it takes, and whether something had to be told while importing."""
    names = [v.name for v in case.model.graph.input]
    values = dict(zip(names, given, strict=False))
    shapes = {n: [list(as_array(e).shape) for e in v] for n, v in values.items() if isinstance(v, list)}
    constants: dict[str, np.ndarray | None] = {n: None for n, v in values.items() if v is None}
    while True:
        try:
            program = import_onnx(case.model, constants=constants, shapes=shapes or None)
            break
        except GraphoptError as error:
            wanted = re.search(r"constants=\{'([^']*)'", str(error))
            if wanted is None or wanted[1] in constants or wanted[1] not in names:
                raise
            constants[wanted[1]] = as_array(values[wanted[1]])
    feeds = tensors([v for n, v in values.items() if n not in constants])
    return program, feeds, bool(constants or shapes)


def _compare(case: Case, run: Run, feeds: list[torch.Tensor], expected: list[Any]) -> None:
    results, references = run(feeds), tensors(expected)
    if len(results) != len(references):
        raise _Mismatch(f"{len(results)} outputs, expected {len(references)}")
    for result, reference in zip(results, references, strict=True):
        if result.dtype != reference.dtype or result.shape != reference.shape:
            raise _Mismatch(
                f"{result.dtype}{list(result.shape)}, expected {reference.dtype}{list(reference.shape)}"
            )
        wide = torch.complex128 if result.is_complex() else torch.float64
        left, right = (t.detach().to(wide).numpy() for t in (result, reference))
        # The tolerance is the one that ONNX gives each test.
        if not np.allclose(left, right, rtol=case.rtol, atol=case.atol, equal_nan=True):
            both = np.isfinite(left) & np.isfinite(right)
            largest = np.max(np.abs(left - right)[both], initial=0.0)
            raise _Mismatch(f"largest difference {largest:.3g}")


def _ort_value(tensor: torch.Tensor) -> onnxruntime.OrtValue:
    tensor = tensor.contiguous()
    try:
        return onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())
    except TypeError:
        raw = tensor.view(torch.uint16 if tensor.dtype.itemsize == 2 else torch.uint8).numpy()
        kind = int(element_type(tensor.dtype))
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, kind)


def _from_ort(value: onnxruntime.OrtValue, dtype: torch.dtype) -> torch.Tensor:
    """The memory of a result as torch; numpy has no bfloat16 or float8."""
    if value.element_type() != int(element_type(dtype)):
        found = onnx.TensorProto.DataType.Name(value.element_type())
        raise _Mismatch(f"{found}, expected {dtype}")
    shape = value.shape()
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    data = bytearray(ctypes.string_at(value.data_ptr(), count * dtype.itemsize))
    return torch.frombuffer(data, dtype=dtype).reshape(shape)
