"""A failing pass leaves what is needed to run it again: its input and its specification."""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from graphopt.errors import GraphoptError
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass


@dataclass(frozen=True)
class Reproducer:
    """A folder with ``program.pt2`` (the input of the pass) and ``pass.json``."""

    folder: Path
    spec: str

    @property
    def command(self) -> str:
        """The shell command that shows the failure again."""
        return f"graphopt opt {self.folder / 'program.pt2'} -o /dev/null.pt2 --passes '{self.spec}'"


def write_reproducer(
    program: Program, item: Pass, error: GraphoptError, parent: str | Path | None
) -> Reproducer:
    """Writes the reproducer of one failure.

    Args:
        program: the input of the pass.
        item: the pass.
        error: what happened.
        parent: the folder to make it in; None: the system's temporary folder.
    """
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="graphopt-repro-", dir=parent))
    found = Reproducer(folder, str(item))
    details = {
        "pass": str(item),
        "error": error.to_dict(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "signature": program.signature.to_dict(),
    }
    (folder / "pass.json").write_text(json.dumps(details, indent=2) + "\n")
    (folder / "program.txt").write_text(program.text(layers=True))
    program.save(folder / "program.pt2")
    return found
