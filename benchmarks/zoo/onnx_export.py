"""ONNX files as ``torch.onnx.export(dynamo=True)`` writes them, made once and cached."""

from __future__ import annotations

import contextlib
import io
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
        assert model.module is not None
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            torch.onnx.export(
                model.module,
                model.inputs,
                str(path),
                dynamo=True,
                opset_version=opset,
                input_names=list(model.input_names),
                output_names=list(model.output_names),
                dynamic_shapes=_for_exporter(model),
                external_data=False,
                verbose=False,
            )

    key = f"{name}-torch{version('torch')}-onnxscript{version('onnxscript')}-opset{opset}.onnx"
    return replace(model, module=None, path=cached(key, export))


def _for_exporter(model: Model) -> tuple[object, ...]:
    """Our forward methods take ``(ids, *rest)``: the exporter wants the rest's shapes as one tuple."""
    shapes = model.dynamic_shapes()
    assert model.module is not None
    return (
        shapes
        if not takes_varargs(model.module)
        else (*shapes[: positional(model.module)], shapes[positional(model.module) :])
    )


def takes_varargs(module: torch.nn.Module) -> bool:
    """Whether ``forward`` ends in ``*args``."""
    return bool(module.forward.__code__.co_flags & 0x04)


def positional(module: torch.nn.Module) -> int:
    """How many named positional parameters ``forward`` has besides ``self``."""
    return int(module.forward.__code__.co_argcount) - 1
