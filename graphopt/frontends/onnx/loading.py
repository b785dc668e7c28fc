"""Reading an ONNX file: is it one, is it whole, is it valid."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from graphopt.errors import InputError
from graphopt.frontends.onnx.external_data import check_external_tensor
from graphopt.frontends.onnx.sparse import densify
from graphopt.frontends.onnx.vetting import tensors, vet


def load_model(source: str | os.PathLike[str] | onnx.ModelProto, base_dir: Path | None = None) -> ir.Model:
    """Reads and checks a model; weights in external files stay there, memory-mapped.

    Args:
        source: path of the file, or a model in memory.
        base_dir: folder of external data of a model in memory.

    Raises:
        InputError: GO-3001 no such file; GO-3002 not ONNX; GO-3003 damaged, truncated or invalid;
            GO-3004 external data missing, truncated or outside the model's folder; GO-3006 nested too
            deep, or a sparse tensor that is too large.
    """
    if isinstance(source, onnx.ModelProto):
        proto, what = source, "the model"
    else:
        path = Path(source)
        proto, what, base_dir = _read(path), str(path), path.resolve().parent
    vet(proto, what)
    _check_external_data(proto, base_dir)
    _check(proto, what)
    proto = densify(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx-ir raises whatever its deserialiser meets
        raise InputError(f"{what} cannot be deserialised: {error}", code="GO-3003") from error
    assert isinstance(model, ir.Model)
    if base_dir is not None:
        for graph in (model.graph, *(f.graph for f in model.functions.values())):
            ir.external_data.set_base_dir(graph, base_dir)
    return model


def _read(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise InputError(f"{path} does not exist", code="GO-3001")
    if not path.is_file():
        raise InputError(f"{path} is not a file", code="GO-3001")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", code="GO-3001") from error
    if not data:
        raise InputError(f"{path} is empty", code="GO-3003")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        # The first field of nearly every ONNX file is ir_version: tag 0x08, then a small number.
        starts_like_onnx = data[0] == 0x08 and len(data) > 1 and 0 < data[1] < 0x40
        if starts_like_onnx:
            raise InputError(
                f"{path} is truncated or damaged: its protobuf message ends early",
                code="GO-3003",
                hint="download or export the file again",
            ) from error
        raise InputError(
            f"{path} is not an ONNX file: it does not hold a protobuf message", code="GO-3002"
        ) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise InputError(f"{path} is not an ONNX model: it has no IR version or no graph", code="GO-3002")
    return proto


def _check(proto: onnx.ModelProto, what: str) -> None:
    """onnx.checker, which also rejects operator sets newer than this onnx knows."""
    if any(map(onnx.external_data_helper.uses_external_data, tensors(proto))):
        proto = _without_external_data(proto)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()
        # Operators that onnx does not know are reported by the importer, all at once.
        if "No Op registered for" in str(error) or "No opset import for domain" in str(error):
            return
        raise InputError(
            f"{what} is not valid ONNX: {' '.join(line.strip() for line in first if line.strip())}",
            code="GO-3003",
        ) from error


def _check_external_data(proto: onnx.ModelProto, base_dir: Path | None) -> None:
    for tensor in tensors(proto):
        if onnx.external_data_helper.uses_external_data(tensor):
            check_external_tensor(tensor, base_dir)


def _without_external_data(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for the checker, which looks for data files in the current folder; external tensors are empty.

    The copy is small: the weights are elsewhere.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in tensors(copy):
        if onnx.external_data_helper.uses_external_data(tensor):
            tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return copy
