"""``graphopt run``: run an artifact or a model on data from a file."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphopt.errors import InputError, did_you_mean
from graphopt.files import check_output, existing_file, write_atomically
from graphopt.ir.signature import Signature
from graphopt.workflows.loading import load


def run(
    model: str | os.PathLike[str],
    inputs: str | os.PathLike[str] | Mapping[str, np.ndarray],
    *,
    output: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """Runs a model once.

    Args:
        model: a ``.so`` artifact; or an ``.onnx`` or ``.pt2`` file, which is run eagerly.
        inputs: an ``.npz`` file, or arrays by input name.
        output: an ``.npz`` file to write.

    Returns:
        the outputs by name.

    Raises:
        InputError: a file cannot be read, or names, dtypes or shapes do not fit (GO-3010).
        TargetError: the artifact cannot run on this machine.
    """
    if output is not None:
        check_output(Path(output), (".npz",))
    path = existing_file(model)
    arrays = inputs if isinstance(inputs, Mapping) else read_npz(inputs)
    runner: Any
    if path.suffix == ".so":
        from graphopt.codegen import load_artifact

        runner = load_artifact(path)
    else:
        runner = load(path)
    signature: Signature = runner.signature
    ordered = in_order(signature, arrays)
    tensors = [_to_tensor(a, spec.name) for a, spec in zip(ordered, signature.inputs, strict=True)]
    with torch.no_grad():
        results = runner(*tensors)
    named = {spec.name: _to_numpy(r) for spec, r in zip(signature.outputs, results, strict=True)}
    if output is not None:
        write_npz(Path(output), named)
    return named


def in_order(signature: Signature, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The arrays in the signature's order.

    Raises:
        InputError: GO-3010, when names are missing or unknown.
    """
    names = [s.name for s in signature.inputs]
    unknown = [n for n in arrays if n not in names]
    missing = [n for n in names if n not in arrays]
    if unknown or missing:
        parts = [f"unknown: {', '.join(map(repr, unknown))}"] if unknown else []
        parts += [f"missing: {', '.join(map(repr, missing))}"] if missing else []
        raise InputError(
            f"the input names do not fit ({'; '.join(parts)})",
            code="GO-3010",
            hint=(did_you_mean(unknown[0], names) if unknown else None)
            or f"the inputs are {', '.join(names)}",
        )
    return [arrays[n] for n in names]


def _to_tensor(array: np.ndarray, name: str) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    except TypeError:  # strings, dates, records
        raise InputError(
            f"input {name!r}: arrays of dtype {array.dtype} are not supported", code="GO-3010"
        ) from None


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """numpy has no bfloat16: such outputs become float32, which holds every value."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; nothing pickled is loaded.

    Raises:
        InputError: GO-3001, GO-3003 or GO-3008.
    """
    path = existing_file(path)
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{str(path)!r} is not an .npz file, or a damaged one",
            code="GO-3003",
            hint="numpy.savez(path, name=array, ...) writes one",
        )
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{str(path)!r} holds pickled objects, and reading them can run any code", code="GO-3008"
            ) from error
        raise InputError(f"{str(path)!r} is damaged: {error}", code="GO-3003") from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file in one step."""
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in arrays.items()})  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
