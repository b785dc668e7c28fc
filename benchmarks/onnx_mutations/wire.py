"""Mutations of the bytes of a file."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from random import Random

import onnx

from benchmarks.onnx_mutations.catalogue import mutation

_REAL = ("ocr_cls", "ocr_cls", "ocr_cls", "ocr_det")


def _flip(random: Random, data: bytearray, low: int, high: int) -> bytes:
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        data[random.randrange(low, high)] ^= 1 << random.randrange(8)
    return bytes(data)


@mutation(weight=8)
def bytes_flipped(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = bytearray(model.SerializeToString())
    return _flip(random, data, 0, len(data))


@mutation(weight=3)
def bytes_inserted(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = model.SerializeToString()
    at = random.randrange(len(data))
    return data[:at] + random.randbytes(random.choice((1, 2, 7, 100))) + data[at:]


@mutation(weight=3)
def bytes_deleted(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = model.SerializeToString()
    at = random.randrange(len(data))
    return data[:at] + data[at + random.choice((1, 2, 7, 100)) :]


@mutation(weight=2)
def bytes_overwritten(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """0xff and 0x7f make the varints of protobuf long."""
    data = bytearray(model.SerializeToString())
    at = random.randrange(len(data))
    count = min(random.choice((1, 4, 9, 32)), len(data) - at)
    data[at : at + count] = bytes([random.choice((0x00, 0x7F, 0x80, 0xFF))]) * count
    return bytes(data)


@mutation(weight=2)
def truncated(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = model.SerializeToString()
    return data[: random.randrange(len(data))]


@mutation(weight=2, samples=_REAL)
def real_bytes_flipped(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = bytearray(model.SerializeToString())
    return _flip(random, data, 0, len(data))


@mutation(weight=3, samples=_REAL)
def real_structure_flipped(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """Only the nodes, which are a small part of the file."""
    data = model.SerializeToString()
    node = random.choice(model.graph.node).SerializeToString()
    at = data.find(node)
    return _flip(random, bytearray(data), at, at + len(node))


@mutation(samples=_REAL)
def real_truncated(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = model.SerializeToString()
    return data[: random.randrange(len(data))]


@mutation()
def appended(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """Protobuf concatenation: the second message is merged into the first."""
    data = model.SerializeToString()
    return data + random.choice((data, b"\x00" * 64, data[: len(data) // 2], b"\x0a" * 999))


@mutation()
def other_format(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    data = model.SerializeToString()
    kind = random.choice(("empty", "text", "gzip", "zip", "tar", "json", "zeros", "noise"))
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("model.onnx", data)
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo("model.onnx")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    else:
        return {
            "empty": b"",
            "text": b"To whom it may concern:\nthis is no model.\n",
            "gzip": gzip.compress(data, mtime=0),
            "json": b'{"ir_version": 8, "graph": {}}',
            "zeros": bytes(4096),
            "noise": random.randbytes(4096),
        }[kind]
    return buffer.getvalue()
