"""``graphopt compare``: do two models compute the same?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from graphopt.contract import Equivalence, Exact
from graphopt.errors import InputError
from graphopt.files import existing_file
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, VerificationReport, verify
from graphopt.workflows.loading import load


def compare(
    reference: str | os.PathLike[str] | Program,
    candidate: Any,
    *,
    contract: Equivalence | None = None,
    dims: dict[str, Any] | None = None,
    inputs: Any = None,
    draws: int = 3,
    seed: int = 0,
) -> VerificationReport:
    """Verifies ``candidate`` against ``reference`` under the noise rule.

    Args:
        reference: a model file or a program; it is run in float64.
        candidate: an ``.onnx`` file (run by onnxruntime), a ``.pt2`` file, a ``.so`` artifact, a
            program, or anything callable on the flat input tensors.
        contract: default: exact.
        dims: of the reference, see :func:`graphopt.load`.
        inputs: the user's data, besides the drawn inputs.
        draws, seed: of the drawn inputs.

    Raises:
        InputError: a file cannot be read, or the reference is an artifact.
    """
    if isinstance(reference, Program):
        program = reference
    else:
        if existing_file(reference).suffix == ".so":
            raise InputError(
                f"{str(reference)!r} is an artifact and cannot be the reference",
                hint="name the original model first and the artifact second",
            )
        program = load(reference, dims=dims)
    runner = _open(candidate) if isinstance(candidate, (str, os.PathLike)) else candidate
    return verify(program, runner, contract=contract or Exact(), inputs=inputs, draws=draws, seed=seed)


def _open(path: str | os.PathLike[str]) -> Any:
    path = existing_file(path)
    if path.suffix == ".onnx":
        return OnnxRuntimeRunner(Path(path))
    if path.suffix in (".so", ".tar"):
        from graphopt.codegen import load_artifact

        return load_artifact(path)
    return load(path)
