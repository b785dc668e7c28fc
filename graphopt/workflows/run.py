"""``graphopt run``: run an artifact or a model on data from a file."""

from __future__ import annotations

import io
import os
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
    with torch.no_grad():
        results = runner(*(torch.from_numpy(np.ascontiguousarray(a)) for a in ordered))
    named = {
        spec.name: result.detach().numpy() for spec, result in zip(signature.outputs, results, strict=True)
    }
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


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; nothing pickled is loaded.

    Raises:
        InputError: GO-3001 or GO-3003.
    """
    path = existing_file(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            if not isinstance(data, np.lib.npyio.NpzFile):
                raise InputError(f"{str(path)!r} holds one array without a name; use .npz", code="GO-3003")
            return {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise InputError(f"{str(path)!r} is not a readable .npz file: {error}", code="GO-3003") from error
    except Exception as error:  # zipfile raises its own kinds for damaged archives
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} is damaged: {error}", code="GO-3003") from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ``.npz`` file in one step."""
    buffer = io.BytesIO()
    np.savez(buffer, **{k: v for k, v in arrays.items()})  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
