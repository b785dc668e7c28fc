"""ONNX files as ``torch.onnx.export(dynamo=True)`` writes them, made once and cached."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.zoo.cache import cached
from benchmarks.zoo.model import Model

OPSET = 18  # what torch.onnx.export writes unless told otherwise


def as_onnx(model: Model, name: str, opset: int = OPSET) -> Model:
    """The same model as a file written by ``torch.onnx.export(dynamo=True)``, its axes still varying."""

    def export(path: Path) -> None:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is absent
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            export_dynamo(model, opset, path)

    key = f"{name}-torch{version('torch')}-onnxscript{version('onnxscript')}-opset{opset}.onnx"
    return replace(model, module=None, path=cached(key, export))


def export_dynamo(model: Model, opset: int, path: Path) -> None:
    """Writes the file with ``torch.onnx.export(dynamo=True)``, the axes that vary in the model left open."""
    assert model.module is not None
    torch.onnx.export(
        model.module,
        model.capture_inputs(),
        str(path),
        dynamo=True,
        opset_version=opset,
        input_names=list(model.input_names),
        output_names=list(model.output_names),
        dynamic_shapes=for_exporter(model),
        external_data=False,
        verbose=False,
    )


def for_exporter(model: Model) -> tuple[object, ...]:
    """torch wants the shapes of everything that ``*args`` of ``forward`` collects as one tuple."""
    assert model.module is not None
    shapes = model.dynamic_shapes()
    kinds = [p.kind for p in inspect.signature(model.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])
