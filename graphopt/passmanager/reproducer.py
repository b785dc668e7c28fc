"""A failure leaves what is needed to see it again: the input of the pass, and the command."""

from __future__ import annotations

import json
import platform
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphopt.errors import GraphoptError
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.passmanager.registry import pipeline_text


@dataclass(frozen=True)
class Settings:
    """How the pipeline was verified, which decides whether a failure shows again."""

    verify: str = "each"
    draws: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Reproducer:
    """A folder with the input of the pass, or of the code generation, that failed.

    ``program.pt2`` is the program, ``program.txt`` its text, ``pass.json`` the passes, the error and
    the versions; ``inputs/`` holds the calibration data, if there was any.

    Attributes:
        spec: the passes, the last of which failed.
        target: the target that the program was compiled for; None: the passes failed alone.
    """

    folder: Path
    spec: str
    settings: Settings = Settings()
    target: str | None = None

    @property
    def command(self) -> str:
        """The shell command that shows the failure again; it writes nothing."""
        words = ["graphopt", "opt" if self.target is None else "compile", str(self.folder / "program.pt2")]
        words += ["--passes", self.spec]
        if self.target is not None:
            words += ["--target", self.target]
        default = Settings() if self.target is None else Settings(verify="final")
        for name in ("verify", "draws", "seed"):
            value = getattr(self.settings, name)
            if value != getattr(default, name):
                words += [f"--{name}", str(value)]
        if (self.folder / "inputs").is_dir():
            words += ["--inputs", str(self.folder / "inputs")]
        return shlex.join(words)


def write_reproducer(
    program: Program,
    passes: Sequence[Pass],
    error: GraphoptError,
    parent: str | Path | None = None,
    *,
    calibration: Sequence[Sequence[Any]] = (),
    settings: Settings = Settings(),
    target: str | None = None,
) -> Reproducer:
    """Writes the reproducer of one failure.

    Args:
        program: the input of the first pass.
        passes: what to run; the last one failed.
        error: what happened.
        parent: the folder to make it in; None: the system's temporary folder.
        calibration: batches of flat input tensors that the passes were given.
        settings: of the pass manager.
        target: where compiling failed, the target.
    """
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="graphopt-repro-", dir=parent))
    found = Reproducer(folder, pipeline_text(passes), settings, target)
    program.save(folder / "program.pt2")
    (folder / "program.txt").write_text(program.text(layers=True))
    names = [spec.name for spec in program.signature.inputs]
    for i, batch in enumerate(calibration):
        (folder / "inputs").mkdir(exist_ok=True)
        arrays = {n: torch.as_tensor(x).detach().numpy() for n, x in zip(names, batch, strict=True)}
        np.savez(folder / "inputs" / f"{i:03d}.npz", **arrays)  # type: ignore[arg-type]
    details = {
        "passes": found.spec,
        "command": found.command,
        "error": error.to_dict(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "signature": program.signature.to_dict(),
    }
    (folder / "pass.json").write_text(json.dumps(details, indent=2) + "\n")
    return found


def add_reproducer(
    error: GraphoptError,
    program: Program,
    passes: Sequence[Pass],
    parent: str | Path | None = None,
    *,
    calibration: Sequence[Sequence[Any]] = (),
    settings: Settings = Settings(),
    target: str | None = None,
) -> None:
    """Writes a reproducer (see :func:`write_reproducer`) and names its command in the error's hint."""
    try:
        found = write_reproducer(
            program, passes, error, parent, calibration=calibration, settings=settings, target=target
        )
        hint = f"reproduce with: {found.command}"
    except (GraphoptError, OSError) as problem:  # the failure itself matters more
        hint = f"no reproducer could be written: {getattr(problem, 'message', problem)}"
    error.hint = f"{error.hint}; {hint}" if error.hint else hint
