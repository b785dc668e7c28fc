"""Opening models by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from graphopt.errors import InputError, UsageError
from graphopt.files import existing_file
from graphopt.ir.program import Program

MODEL_SUFFIXES = (".onnx", ".pt2")
_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def load(path: str | os.PathLike[str], *, dims: Mapping[str, Any] | None = None) -> Program:
    """The program of a model file.

    Args:
        path: an ``.onnx`` file, or a ``.pt2`` file of torch.export or graphopt.
        dims: for ONNX, what dynamic dimensions may be: a size, ``(smallest, largest)`` or a
            :class:`graphopt.DimRange`, by name.

    Raises:
        InputError: the file is missing (GO-3001), of another kind (GO-3002, GO-3008), damaged
            (GO-3003, GO-3004) or holds operators that are not supported (GO-3005, GO-3006).
        UsageError: ``dims`` names a dimension that the model lacks.
    """
    path = existing_file(path)
    if path.suffix == ".onnx":
        from graphopt.frontends.onnx import import_onnx

        return import_onnx(path, dims=dims)
    if path.suffix in _PICKLED:
        raise InputError(
            f"{str(path)!r} is a pickled checkpoint, and reading one can run any code",
            code="GO-3008",
            hint="build the module, load its weights, and use graphopt.capture or torch.export.save",
        )
    if path.suffix != ".pt2":
        raise InputError(
            f"{str(path)!r} is not a model that graphopt reads",
            code="GO-3002",
            hint=f"graphopt reads {' and '.join(MODEL_SUFFIXES)}",
        )
    if dims:
        raise UsageError("dimensions of a .pt2 file are fixed when it is exported; dims is for .onnx files")
    from graphopt.exporters.pt2 import load_pt2

    return load_pt2(path)
