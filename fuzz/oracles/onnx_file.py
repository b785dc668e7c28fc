"""Files: a program written as ONNX computes the same in onnxruntime, and read back as a program."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from graphopt.contract import Exact
from graphopt.errors import GraphoptError, InputError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.contract import failed_report, value_problem
from graphopt.fuzz.oracles.localise import first_wrong
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import exception_problem
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner

UNSUPPORTED = ("GO-3005", "GO-3006")
"""An operator without a form in ONNX, or used in a way that has none: said openly, so no problem."""


def chosen_program(subject: Subject) -> Program:
    """What a backend is tried on: half of the time what the passes made of the program."""
    after = subject.outcome.program
    return (
        after if after is not None and subject.outcome.changed and subject.case.seed % 2 else subject.program
    )


class OnnxFile:
    """The exported file gives the program's results in onnxruntime, with and without its optimisations.

    Where only the optimised session is wrong, the problem is onnxruntime's.
    """

    name = "onnx-file"
    cost: Cost = "export"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        program = chosen_program(subject)
        with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
            try:
                path = _export(program, Path(folder))
            except Exception as error:
                if not _openly_unsupported(error):
                    yield exception_problem("export", self.name, error)
                return
            for optimise in (False, True):
                component = "onnxruntime" if optimise else "export"
                problems = list(_runs_alike(subject, program, path, optimise, component, self.name))
                yield from problems
                if problems:
                    return


class OnnxRoundTrip:
    """The exported file, read back, is a program with the same interface that computes the same."""

    name = "onnx-round-trip"
    cost: Cost = "export"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        from graphopt.frontends.onnx.importer import import_onnx

        program = chosen_program(subject)

        def back(program: Program) -> Program:
            with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
                return import_onnx(_export(program, Path(folder)))

        try:
            again = back(program)
        except Exception as error:
            if not _openly_unsupported(error):
                yield exception_problem("import", self.name, error)
            return
        for kind in ("inputs", "outputs"):
            wanted, found = ([_described(s) for s in getattr(p.signature, kind)] for p in (program, again))
            if wanted != found:
                signature = Signature("import", self.name, "interface", kind)
                yield Problem(signature, f"{kind} were {wanted} and came back as {found}")
                return
        yield from compared(subject, program, again, "import", self.name, back)


def compared(
    subject: Subject,
    program: Program,
    candidate: Any,
    component: str,
    oracle: str,
    backend: Callable[[Program], Any],
) -> Iterator[Problem]:
    """The problem of a candidate that does not compute what a program does, up to rounding.

    Args:
        backend: makes a candidate of a program with other outputs, to find the first wrong operator.
    """
    try:
        report = failed_report(subject, program, candidate, Exact())
    except (GraphoptError, RuntimeError) as error:
        yield exception_problem(component, oracle, error)
        return
    if report is not None:
        yield value_problem(report, component, oracle, first_wrong(subject, program, backend))


def _runs_alike(
    subject: Subject, program: Program, path: Path, optimise: bool, component: str, oracle: str
) -> Iterator[Problem]:
    def session(program: Program) -> OnnxRuntimeRunner:
        with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
            return OnnxRuntimeRunner(_export(program, Path(folder)), optimise=optimise)

    try:
        candidate = OnnxRuntimeRunner(path, optimise=optimise)
    except InputError as error:  # "cannot find an implementation": a gap of onnxruntime's
        gap = "NOT_IMPLEMENTED" in error.message or "Could not find an implementation" in error.message
        if not gap:
            yield exception_problem(component, oracle, error)
        return
    yield from compared(subject, program, candidate, component, oracle, session)


def _export(program: Program, folder: Path) -> Path:
    from graphopt.exporters.onnx import to_onnx

    path = folder / "model.onnx"
    to_onnx(program, path)
    return path


def _openly_unsupported(error: Exception) -> bool:
    return isinstance(error, GraphoptError) and error.code in UNSUPPORTED


def _described(spec: Any) -> tuple[str, str, int]:
    """Name, dtype and rank; sizes of dynamic axes may be known more exactly after a round trip."""
    return spec.name, str(spec.dtype), len(spec.shape)
