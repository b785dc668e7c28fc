"""``graphopt compile``: from a model to a verified artifact."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import UsageError, VerificationError
from graphopt.files import check_output, write_atomically
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.passmanager.instruments import Instrument
from graphopt.passmanager.manager import CompileWhen, PassManager, When
from graphopt.passmanager.reproducer import Settings, add_reproducer
from graphopt.passmanager.result import PassResult
from graphopt.verification import OnnxRuntimeRunner, VerificationReport, verify
from graphopt.workflows.loading import load
from graphopt.workflows.optimize import DEFAULT_PASSES, read_batches

if TYPE_CHECKING:
    from graphopt.codegen import Artifact
    from graphopt.codegen.emulate import KernelCheck
    from graphopt.codegen.targets import Target


@dataclass
class CompileResult:
    """What :func:`compile_model` did.

    Attributes:
        artifact: the compiled program.
        passes: the pipeline's result.
        output: the file written, if any.
        checks: verification by name: ``capture`` (the program against onnxruntime on the original
            file) and ``artifact`` (the compiled code against the original program).
        unverified: why the artifact was not run, when it could not be.
        seconds: time in each stage.
        kernels: what the emulation of each GPU kernel found; empty without it.
        source: the file with the kernels' source, if one was asked for.
    """

    artifact: Artifact
    passes: PassResult
    output: Path | None
    checks: dict[str, VerificationReport]
    unverified: str | None
    seconds: dict[str, float]
    kernels: list[KernelCheck] = field(default_factory=list)
    source: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "graphopt.compile/1",
            "output": str(self.output) if self.output else None,
            "target": self.artifact.target.to_dict(),
            "kernels": len(self.artifact.kernels()),
            "tuned": {name: dict(decisions) for name, decisions in self.artifact.tuned().items()},
            "winograd": self.artifact.winograd(),
            "strassen": self.artifact.strassen(),
            "warnings": self.artifact.warnings(),
            "gpu_kernels": [k.to_dict() for k in self.artifact.gpu_kernels()],
            "source": str(self.source) if self.source else None,
            "signature": self.artifact.signature.to_dict(),
            "notes": self.passes.original.notes,
            **self.passes.to_dict(),
            "checks": {name: report.to_dict() for name, report in self.checks.items()},
            "emulated": [check.to_dict() for check in self.kernels],
            "unverified": self.unverified,
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
        }


def compile_model(
    source: str | os.PathLike[str] | Program,
    target: str = "cpu",
    *,
    passes: str | Sequence[Pass | str] = DEFAULT_PASSES,
    output: str | os.PathLike[str] | None = None,
    dims: dict[str, Any] | None = None,
    calibration: Any = None,
    verify_when: CompileWhen = "final",
    draws: int = 2,
    seed: int = 0,
    instruments: Sequence[Instrument] = (),
    cache: bool = True,
    tuned: bool | str | os.PathLike[str] = True,
    fast_algorithms: bool = True,
    emit_source: bool = False,
) -> CompileResult:
    """Loads, rewrites, compiles and verifies a model, and writes the artifact last.

    The original is the reference for everything: for an ONNX file, onnxruntime runs the file itself
    and must agree with the captured program; then the compiled code must agree with that program
    under the contract of all passes.

    Args:
        source: a model file or a program.
        target: a name that :func:`graphopt.list_targets` knows.
        passes: passes, or their textual form.
        output: the ``.so`` file to write (``.tar`` where no linker for the target is installed).
        dims: see :func:`graphopt.load`.
        calibration: the user's data; verification runs on it as well as on drawn inputs.
        verify_when: ``"final"`` verifies the artifact, ``"each"`` every pass too, ``"emulate"`` every GPU
            kernel on the CPU too, ``"off"`` nothing.
        draws, seed: of the inputs drawn for verification.
        instruments: see :class:`graphopt.PassManager`.
        emit_source: write the kernels' source beside ``output`` (:func:`source_path`).
        cache: take the compiled code from the user's cache if it is there; it is verified all the same.
        tuned: use the schedules that :func:`graphopt.tune` found; see :func:`graphopt.compile`.
        fast_algorithms: use Winograd's and Strassen's methods where they pay; see :func:`graphopt.compile`.

    Raises:
        GraphoptError: of any stage; no file is written then.
    """
    from graphopt.codegen import compile as generate
    from graphopt.codegen import find_target
    from graphopt.codegen.package import check_writable
    from graphopt.codegen.toolchain import require_cuda_compiler

    chosen = find_target(target)
    if verify_when == "emulate" and chosen.kind != "cuda":
        raise UsageError(
            f"kernels for {chosen.name!r} need no emulation", hint="'--verify emulate' is for CUDA targets"
        )
    if chosen.kind == "cuda":
        require_cuda_compiler()
    if output is not None:
        check_writable(Path(output), f".{chosen.object_format}", chosen)
    if emit_source:
        if output is None:
            raise UsageError(
                "the source is written beside the artifact, and no artifact is", hint="name one with -o"
            )
        check_output(source_path(Path(output), chosen))
    during: When = "each" if verify_when == "each" else "off"
    manager = PassManager(passes, instruments=instruments, verify=during, draws=draws, seed=seed)
    clock = _Clock()
    program = source if isinstance(source, Program) else load(source, dims=dims)
    batches = read_batches(calibration, program)
    clock.lap("load")
    settings: dict[str, Any] = {"inputs": batches or None, "draws": draws, "seed": seed}
    checks: dict[str, VerificationReport] = {}
    if verify_when != "off" and not isinstance(source, Program) and Path(source).suffix == ".onnx":
        checks["capture"] = verify(program, OnnxRuntimeRunner(Path(source)), **settings).raise_if_failed()
        clock.lap("verify capture")
    result = manager.run(program, calibration=batches)
    clock.lap("passes")
    origin = None if isinstance(source, Program) else identity(Path(source))
    kernels: list[KernelCheck] = []
    emulation: float = 0.0

    def emulate(meanings: Mapping[str, Any], lowered: Mapping[str, Any]) -> None:
        from graphopt.codegen.emulate import check_kernels, raise_if_wrong

        nonlocal emulation
        started = time.perf_counter()
        kernels.extend(check_kernels(meanings, lowered, chosen, dims=program.signature.dims, seed=seed))
        emulation = time.perf_counter() - started
        raise_if_wrong(kernels)

    inspect = emulate if verify_when == "emulate" else None
    artifact = generate(
        result.program,
        chosen,
        source=origin,
        cache=cache,
        tuned=tuned,
        fast_algorithms=fast_algorithms,
        inspect=inspect,
    )
    clock.lap("compile")
    if inspect is not None:
        clock.split("compile", "emulate", emulation)
    unverified: str | None = None
    if verify_when == "off":
        unverified = "verification was switched off"
    elif chosen.why_not_here() is not None:
        unverified = f"the artifact cannot run here: {chosen.why_not_here()}"
        checks["program"] = verify(program, result.program, contract=result.contract, **settings)
        checks["program"].raise_if_failed()
        clock.lap("verify program")
    else:
        checks["artifact"] = verify(program, artifact, contract=result.contract, **settings)
        if not checks["artifact"].ok:
            raise _blamed(program, result, manager.passes, checks["artifact"], chosen, settings)
        clock.lap("verify artifact")
    written: Path | None = None
    text: Path | None = None
    if output is not None:
        written = Path(output)
        artifact.save(written)
        if emit_source:
            text = source_path(written, chosen)
            write_atomically(text, artifact.source().encode())
    return CompileResult(artifact, result, written, checks, unverified, clock.seconds, kernels, text)


def source_path(output: Path, target: Target) -> Path:
    """Where the source of an artifact goes: CUDA C++ to ``.cu``, scheduled TensorIR to ``.tir``."""
    return output.with_suffix(".cu" if target.kind == "cuda" else ".tir")


def _blamed(
    program: Program,
    result: PassResult,
    passes: Sequence[Pass],
    report: VerificationReport,
    target: Target,
    settings: Mapping[str, Any],
) -> VerificationError:
    """The error for wrong compiled code: it says whether the passes or code generation are at fault."""
    rewritten = verify(program, result.program, contract=result.contract, **settings)
    if rewritten.ok:
        error, culprit = report.error(), "code generation"
    else:
        error, culprit = rewritten.error(), "the passes"
    error.message = f"{culprit} did harm: {error.message}"
    add_reproducer(
        error,
        result.program if rewritten.ok else program,
        () if rewritten.ok else passes,
        calibration=settings["inputs"] or (),
        settings=Settings("final", settings["draws"], settings["seed"]),
        target=target.name if rewritten.ok else None,
    )
    return error


def identity(path: Path) -> dict[str, str]:
    """Path and digest of a model file, so that ``bench`` finds the original again."""
    path = path.resolve()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return {"path": str(path), "sha256": digest.hexdigest()}


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now

    def split(self, stage: str, part: str, seconds: float) -> None:
        """Count a part of a stage for itself."""
        self.seconds[stage] -= seconds
        self.seconds[part] = seconds
