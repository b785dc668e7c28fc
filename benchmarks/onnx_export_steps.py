"""The two steps of :mod:`benchmarks.onnx_exports` on one file: exporting it, and importing it."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.zoo.model import Model

if TYPE_CHECKING:
    from graphopt.ir.program import Program

PASSED = ("ok", "fixed")


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        kind: one word of the table.
        detail: why, where it did not pass.
    """

    kind: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.kind.split(":")[0] in PASSED


def export_step(name: str, exporter: str, opset: int, dtype: str, path: str) -> Outcome:
    """Writes a model with ``torch.onnx.export``; ``exporter`` is ``torchscript`` or ``dynamo``."""
    model = _model(name, dtype)
    from benchmarks.zoo.onnx_export import export_dynamo

    export = {"torchscript": export_torchscript, "dynamo": export_dynamo}[exporter]
    try:
        logging.disable(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporters' own deprecations
            export(model, opset, Path(path))
    except Exception as error:  # whatever an exporter raises is an entry of the table
        return Outcome("no export", f"opset {opset}, {dtype}: {_first_line(error)}")
    finally:
        logging.disable(logging.NOTSET)
    return Outcome("ok")


def export_torchscript(model: Model, opset: int, path: Path) -> None:
    """The exporter that traces, with the axes that vary in the model left open."""
    import torch

    assert model.module is not None
    axes = dict(zip(model.input_names, map(dict, model.axes), strict=True))
    torch.onnx.export(
        model.module,
        model.capture_inputs(),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=list(model.input_names),
        output_names=list(model.output_names),
        dynamic_axes={n: a for n, a in axes.items() if a},
    )


def runtime_step(name: str, dtype: str, path: str) -> Outcome:
    """Runs a file in onnxruntime: some that the exporters write are valid by no one's rules but their own."""
    from graphopt.errors import GraphoptError
    from graphopt.verification import OnnxRuntimeRunner

    model = _model(name, dtype)
    try:
        OnnxRuntimeRunner(path)(*model.capture_inputs())
    except GraphoptError as error:
        return Outcome("no runtime", f"{Path(path).stem}: {error.message}")
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        return Outcome("no runtime", f"{Path(path).stem}: {_first_line(error)}")
    return Outcome("ok")


def import_step(name: str, dtype: str, path: str) -> Outcome:
    """Imports a file once and compares it with onnxruntime at three sizes."""
    from graphopt.errors import GraphoptError, VerificationError
    from graphopt.frontends.onnx import import_onnx
    from graphopt.verification import OnnxRuntimeRunner, verify

    model = _model(name, dtype)
    try:
        program = import_onnx(path).check()
        fixed = _fixed(model, program)
        batches = [model.resized(sizes | fixed) for sizes in sizes_of(model)]
        verify(program, OnnxRuntimeRunner(path), inputs=batches, runs=4).raise_if_failed()
    except VerificationError as error:
        return Outcome("differs", f"{Path(path).stem}: {error.message}")
    except GraphoptError as error:
        return Outcome(error.code, f"{Path(path).stem}: {error.message}")
    except Exception:
        return Outcome("crash", f"{Path(path).stem}: {traceback.format_exc()[-600:]}")
    notes = "; ".join(program.notes)
    return Outcome(f"fixed:{','.join(fixed)}", f"{Path(path).stem}: {notes}") if fixed else Outcome("ok")


def _fixed(model: Model, program: Program) -> dict[str, int]:
    """The dimensions of the model that have one size in the program, with it."""
    fixed: dict[str, int] = {}
    for spec, axes in zip(program.signature.inputs, model.axes, strict=True):
        for axis, name in axes.items():
            size = spec.shape[axis]
            if isinstance(size, int):
                fixed[name] = size
    return fixed


def sizes_of(model: Model) -> list[dict[str, int]]:
    """The sizes that the model is exported with, the smallest in range, and some between."""
    example: dict[str, int] = {}
    for tensor, axes in zip(model.capture_inputs(), model.axes, strict=True):
        for axis, name in axes.items():
            example.setdefault(name, tensor.shape[axis])
    if not example:
        return [{}]
    least, other = {}, {}
    for index, name in enumerate(example):
        low, high = model.range(name)
        step = model.multiples.get(name, 1)
        least[name] = -(-low // step) * step
        other[name] = min(example[name] + (index + 1) * step, high)
    return [example, least, other]


def _model(name: str, dtype: str) -> Model:
    import torch

    from benchmarks.onnx_export_models import build

    model = build(name)
    if dtype == "float32":
        return model
    assert model.module is not None
    wanted = getattr(torch, dtype)
    inputs = tuple(t.to(wanted) if t.is_floating_point() else t for t in model.inputs)
    return replace(model, module=model.module.to(wanted), inputs=inputs)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
