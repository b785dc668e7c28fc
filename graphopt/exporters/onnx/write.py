"""Writes an ONNX model, weights inside or next to it, so that it appears complete or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import onnx
import onnx_ir as ir

from graphopt.errors import InputError, InternalError
from graphopt.exporters.onnx.stream import large_weights_taken_out, write_data, write_model_proto
from graphopt.files import atomic_files

AUTO_LIMIT = 1536 * 2**20
"""Bytes of weights above which ``"auto"`` stores them outside: protobuf stops at 2 GB."""

_SMALL = 1024
"""Bytes up to which a tensor stays in the model file: shapes and scalars, which checkers read."""

_UNSUPPORTED_TYPE = re.compile(
    r"op_type:(\w+), node name: ([^)]*)\): \w+ typestr: \w+, has unsupported type: tensor\((\w+)\)"
)
"""What onnx's shape inference says of a type that an operator does not take."""

_PAGE = 4096
"""Alignment of a tensor in the data file, so that onnxruntime can map it."""


def write_model(
    model: ir.Model,
    path: Path,
    external_data: Literal["auto"] | bool | int,
    verify: Callable[[Path], None] | None = None,
) -> None:
    """Check ``model`` with onnx.checker, then write it to ``path``.

    Args:
        model: its weights are in memory.
        path: the file to write; weights next to it go to ``<file name>.data``.
        external_data: see :func:`graphopt.exporters.onnx.to_onnx`.
        verify: called with a path of the complete model before anything is published; if it raises,
            nothing is.

    Raises:
        InputError: the file cannot be written (GO-3001), or ONNX lacks an operator in a type (GO-3006).
        InternalError: the checker rejects the model: a defect of the exporter.
    """
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    total = sum(tensor.nbytes for tensor in weights.values() if tensor is not None)
    limit = AUTO_LIMIT if external_data == "auto" else external_data
    outside = limit if isinstance(limit, bool) else total > limit
    outside = outside and any(t is not None and t.nbytes > _SMALL for t in weights.values())
    if not outside and total > 2**31 - 2**20:
        raise InputError(
            f"the weights have {total} bytes, too many for one file",
            code="GO-3001",
            hint="leave external_data at 'auto'",
        )
    check(model)
    with atomic_files(path.parent, named=outside and verify is not None) as files:
        try:
            if outside:
                # Opened first and so published first: the model never refers to a missing file.
                _move_out(model, files.open(f"{path.name}.data"), f"{path.name}.data")
            write_model_proto(model, files.open(path.name), _SMALL)
        finally:
            for name, tensor in weights.items():
                model.graph.initializers[name].const_value = tensor
        if verify is not None:
            verify(files.readable(path.name))


def _move_out(model: ir.Model, file: BinaryIO, location: str) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL:
            continue
        offset = -(-file.tell() // _PAGE) * _PAGE
        file.seek(offset)
        write_data(tensor, file)
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape([int(size) for size in tensor.shape.numpy()]),
            name=name,
        )


def check(model: ir.Model) -> None:
    """Run onnx.checker with strict shape inference.

    Large weights stand as graph inputs meanwhile: their bytes cannot be wrong in a way that the
    checker sees, and the model then fits into a protobuf.

    Raises:
        InputError: GO-3006, an operator is of a type that ONNX does not define it for.
        InternalError: the checker rejects the model for another reason.
    """
    graph = model.graph
    with large_weights_taken_out(model, _SMALL) as weights:
        graph.inputs.extend(value for value, _ in weights)
        try:
            proto = ir.serde.serialize_model(model)
        finally:
            del graph.inputs[len(graph.inputs) - len(weights) :]
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        unsupported = _UNSUPPORTED_TYPE.search(str(error))
        if unsupported is not None:
            operator, name, type_ = unsupported.groups()
            raise InputError(
                f"ONNX has no {operator} of {type_}", code="GO-3006", node=name, layer=name
            ) from error
        raise InternalError(f"the exported ONNX model is not valid: {error}", code="GO-1001") from error
