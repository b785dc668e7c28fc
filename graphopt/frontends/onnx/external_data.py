"""Checks on weights kept outside the ONNX file, before any byte of them is read.

The location comes from the model file, so it is not trusted: it must be a relative path that stays,
symbolic links resolved, inside the model's folder, and name a regular file long enough for the tensor.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path, PureWindowsPath

import onnx
import onnx_ir as ir

from graphopt.errors import InputError


def check_external_tensor(tensor: onnx.TensorProto, base_dir: Path | None) -> None:
    """Checks one tensor.

    Raises:
        InputError: GO-3004, naming the file and the tensor.
    """
    name = tensor.name or "(unnamed)"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise InputError(f"external data of tensor {name!r} says something twice", code="GO-3004")
    location = entries.get("location", "")

    def refuse(why: str, hint: str | None = None) -> InputError:
        return InputError(f"external data {location!r} of tensor {name!r} {why}", code="GO-3004", hint=hint)

    if tensor.data_type == onnx.TensorProto.STRING:
        raise refuse("cannot hold strings")
    if not location:
        raise refuse("names no file")
    if base_dir is None:
        raise refuse("cannot be found: the model is in memory", hint="import the file, or pass base_dir")
    if "\0" in location:
        raise refuse("is not a file name")
    path = Path(location)
    if path.is_absolute() or PureWindowsPath(location).drive or PureWindowsPath(location).root:
        raise refuse("is an absolute path; it must be relative to the model's folder")
    folder = base_dir.resolve()
    try:
        resolved = (folder / path).resolve()
        # Asks the file system, which refuses names that are too long.
        resolved.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        why = getattr(error, "strerror", None) or "its symbolic links lead in a circle"
        raise refuse(f"cannot be found: {why}") from None
    if not resolved.is_relative_to(folder):
        raise refuse("leaves the model's folder")
    if not resolved.exists():
        raise refuse(f"does not exist in {folder}", hint="keep the data file beside the .onnx file")
    if not resolved.is_file():
        raise refuse("is not a regular file")
    if not os.access(resolved, os.R_OK):
        raise refuse("cannot be read: permission denied")
    if resolved.stat().st_nlink > 1:
        raise refuse("has several hard links, so it may be a file from outside the model's folder")

    offset = _integer(entries, "offset", refuse) or 0
    length = _integer(entries, "length", refuse)
    needed = _byte_size(tensor)
    if length is not None and length != needed:
        raise refuse(f"declares {length} bytes; shape and dtype need {needed}")
    available = resolved.stat().st_size - offset
    if available < needed:
        raise refuse(
            f"is truncated: the tensor needs {needed} bytes from offset {offset}, "
            f"the file has {max(available, 0)}",
            hint="download or export the file again",
        )


def _integer(entries: dict[str, str], key: str, refuse: object) -> int | None:
    text = entries.get(key)
    if text is None or text == "":
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        assert callable(refuse)
        raise refuse(f"has a malformed {key}: {text[:40]!r}")
    return int(text)


def _byte_size(tensor: onnx.TensorProto) -> int:
    bits = ir.DataType(tensor.data_type).bitwidth
    return math.ceil(math.prod(tensor.dims) * bits / 8)
