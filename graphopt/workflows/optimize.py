"""``graphopt opt``: rewrite a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.files import check_output
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.passmanager.instruments import Instrument
from graphopt.passmanager.manager import PassManager, When
from graphopt.passmanager.result import PassResult
from graphopt.verification import OnnxRuntimeRunner, VerificationReport, verify
from graphopt.workflows.loading import load

DEFAULT_PASSES = "cleanup"


@dataclass
class OptimizeResult:
    """What :func:`optimize` did.

    Attributes:
        passes: the pipeline's result, with the rewritten program.
        output: the file written, if any.
        checks: verification of the written file, by name of the check.
    """

    passes: PassResult
    output: Path | None
    checks: dict[str, VerificationReport]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "graphopt.opt/1",
            "output": str(self.output) if self.output else None,
            **self.passes.to_dict(),
            "checks": {name: report.to_dict() for name, report in self.checks.items()},
        }


def optimize(
    source: str | os.PathLike[str] | Program,
    passes: str | Sequence[Pass | str] = DEFAULT_PASSES,
    *,
    output: str | os.PathLike[str] | None = None,
    dims: dict[str, Any] | None = None,
    calibration: Any = None,
    verify_when: When = "each",
    draws: int = 2,
    seed: int = 0,
    instruments: Sequence[Instrument] = (),
) -> OptimizeResult:
    """Runs a pipeline on a model, and writes the result once it is verified.

    Args:
        source: a model file or a program.
        passes: passes, or their textual form.
        output: an ``.onnx`` or ``.pt2`` file to write.  An ONNX file is run in onnxruntime and
            compared with the original under the pipeline's contract before it gets its name.
        dims: see :func:`graphopt.load`.
        calibration: the user's data: ``.npz`` path or batches; verification uses it too.
        verify_when: see :class:`graphopt.PassManager`.
        draws, seed: of the inputs drawn for verification.
        instruments: see :class:`graphopt.PassManager`.

    Raises:
        GraphoptError: as :func:`graphopt.load`, :class:`graphopt.PassManager` and
            :meth:`VerificationReport.raise_if_failed`; no file is written then.
    """
    if output is not None:
        check_output(Path(output), (".onnx", ".pt2"))
    # Built first: a misspelt pass is told before a model is loaded.
    manager = PassManager(passes, instruments=instruments, verify=verify_when, draws=draws, seed=seed)
    program = source if isinstance(source, Program) else load(source, dims=dims)
    batches = read_batches(calibration, program)
    result = manager.run(program, calibration=batches)
    checks: dict[str, VerificationReport] = {}
    written: Path | None = None
    if output is not None:
        written = Path(output)
        _write(result, written, batches, checks, verify_when, draws, seed)
    return OptimizeResult(result, written, checks)


def _write(
    result: PassResult,
    output: Path,
    batches: Sequence[Sequence[Any]],
    checks: dict[str, VerificationReport],
    verify_when: When,
    draws: int,
    seed: int,
) -> None:
    if output.suffix == ".pt2" or verify_when == "off":
        result.program.save(output)
        return
    from graphopt.exporters.onnx import export_verified

    def check(path: Path) -> None:
        report = verify(
            result.original,
            OnnxRuntimeRunner(path),
            contract=result.contract,
            inputs=batches or None,
            draws=draws,
            seed=seed,
        )
        checks["onnxruntime"] = report.raise_if_failed()

    export_verified(result.program, output, check)


def read_batches(data: Any, program: Program) -> Sequence[Sequence[Any]]:
    """The user's data as batches of flat input tensors, checked against the signature."""
    if data is None:
        return ()
    from graphopt.verification import load_inputs

    return [tuple(draw) for draw in load_inputs(data, program.signature)]
