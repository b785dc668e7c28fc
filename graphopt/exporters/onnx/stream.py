"""Serialises an ONNX model that holds its weights, without holding them once more in memory.

Protobuf's own way has all weights three times: as tensors, in messages, and in the bytes.  The fields
of a message may stand in any order (https://protobuf.dev/programming-guides/encoding), so protobuf
serialises the graph without its large weights here, and they follow as further ``initializer`` fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import onnx
import onnx_ir as ir

_GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def write_model_proto(model: ir.Model, file: BinaryIO, large: int) -> None:
    """Writes ``model`` as a ``ModelProto``.

    Args:
        model: not changed when this returns.
        file: where the bytes go.
        large: weights of more bytes than that are written by themselves.
    """
    with large_weights_taken_out(model, large) as weights:
        proto = ir.serde.serialize_model(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = [_head(value, tensor) for value, tensor in weights]
    total = len(graph) + sum(len(h) + t.nbytes for h, (_, t) in zip(heads, weights, strict=True))
    file.write(proto.SerializeToString() + _prefix(_GRAPH, total) + graph)
    for head, (_, tensor) in zip(heads, weights, strict=True):
        file.write(head)
        write_data(tensor, file)


def write_data(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    """Writes a tensor's bytes, from where they are if they are in memory."""
    if isinstance(tensor, ir.Tensor):
        tensor.tofile(file)
    else:
        file.write(tensor.tobytes())


@contextmanager
def large_weights_taken_out(
    model: ir.Model, large: int
) -> Iterator[list[tuple[ir.Value, ir.TensorProtocol]]]:
    """While it lasts, initialisers of more than ``large`` bytes in memory are no part of the graph."""
    initializers = model.graph.initializers
    order = list(initializers.values())
    weights = [(v, t) for v in order if (t := v.const_value) is not None and _is_large(t, large)]
    for value, _ in weights:
        del initializers[str(value.name)]
        value.const_value = None
    try:
        yield weights
    finally:
        for value, tensor in weights:
            value.const_value = tensor
        initializers.clear()
        for value in order:
            initializers[str(value.name)] = value


def _is_large(tensor: ir.TensorProtocol, large: int) -> bool:
    return tensor.nbytes > large and not isinstance(tensor, ir.ExternalTensor)


def _head(value: ir.Value, tensor: ir.TensorProtocol) -> bytes:
    """All of an ``initializer`` field but the data that ends it."""
    dims = [int(size) for size in tensor.shape.numpy()]
    described = onnx.TensorProto(name=str(value.name), data_type=int(tensor.dtype), dims=dims)
    start = described.SerializeToString() + _prefix(_RAW_DATA, tensor.nbytes)
    return _prefix(_INITIALIZER, len(start) + tensor.nbytes) + start


def _prefix(field: int, length: int) -> bytes:
    """Tag and length of a field whose content follows: wire type 2, two varints."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
