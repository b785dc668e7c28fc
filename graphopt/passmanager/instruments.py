"""Instruments: what watches a pipeline without changing it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from graphopt.ir.program import Program

if TYPE_CHECKING:
    from graphopt.passmanager.base import Pass
    from graphopt.passmanager.result import PassRecord


class Instrument:
    """Base: every hook does nothing.  ``depth`` counts the composites around the pass."""

    def before_pipeline(self, program: Program, passes: list[Pass]) -> None:
        """Called once, before the first pass."""

    def before_pass(self, item: Pass, program: Program, depth: int) -> None:
        """Called before a pass, with its input."""

    def after_pass(self, item: Pass, program: Program, record: PassRecord, depth: int) -> None:
        """Called after a pass has run and its result passed the verifier."""

    def after_pipeline(self, program: Program) -> None:
        """Called once, with the final program."""

    def on_failure(self, item: Pass, program: Program, error: Exception) -> None:
        """Called with the input of the pass that failed."""


class Timing(Instrument):
    """Collects seconds a pass: ``timing.seconds`` is a list of (specification, depth, seconds)."""

    def __init__(self) -> None:
        self.seconds: list[tuple[str, int, float]] = []

    def after_pass(self, item: Pass, program: Program, record: PassRecord, depth: int) -> None:
        self.seconds.append((record.spec, depth, record.seconds))

    def __str__(self) -> str:
        return "\n".join(f"{s:9.3f} s  {'  ' * depth}{spec}" for spec, depth, s in self.seconds)


class PrintProgram(Instrument):
    """Prints the program before and after the passes whose names match.

    Args:
        only: names of passes; all when empty.
        before, after: which side to print.
        changed: print after a pass only if it changed the program.
        file: default: stderr.
    """

    def __init__(
        self,
        only: tuple[str, ...] = (),
        *,
        before: bool = False,
        after: bool = True,
        changed: bool = True,
        file: TextIO | None = None,
    ) -> None:
        self.only, self.before, self.after, self.changed = only, before, after, changed
        self.file = file

    def _wants(self, item: Pass) -> bool:
        return not self.only or item.name in self.only

    def _print(self, title: str, program: Program) -> None:
        print(f"// {title}\n{program.text(layers=True)}", file=self.file or sys.stderr)

    def before_pass(self, item: Pass, program: Program, depth: int) -> None:
        if self.before and self._wants(item):
            self._print(f"before {item}", program)

    def after_pass(self, item: Pass, program: Program, record: PassRecord, depth: int) -> None:
        if self.after and self._wants(item) and (record.changed or not self.changed):
            self._print(f"after {item}", program)


class Dump(Instrument):
    """Writes the text of the program after each pass into a folder: ``00-input.txt``, ``01-….txt``."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._count = 0

    def _write(self, name: str, program: Program) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        safe = re.sub(r"[^\w.-]+", "_", name)[:60].strip("_")
        (self.folder / f"{self._count:02d}-{safe}.txt").write_text(program.text(layers=True))
        self._count += 1

    def before_pipeline(self, program: Program, passes: list[Pass]) -> None:
        self._count = 0
        self._write("input", program)

    def after_pass(self, item: Pass, program: Program, record: PassRecord, depth: int) -> None:
        self._write(str(item), program)


class Progress(Instrument):
    """One line a pass, on stderr: what it did, how long it took, what verification said."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    def after_pass(self, item: Pass, program: Program, record: PassRecord, depth: int) -> None:
        if depth == 0:
            print(record.line(), file=self.file or sys.stderr, flush=True)
