"""The scripts of known issues: whether they still show their bugs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STILL_THERE = "still there"
"""How the last line of a script begins that shows its bug; its exit status is then 1, and 0 otherwise."""


@dataclass(frozen=True)
class ScriptResult:
    """What became of a script.

    Attributes:
        status: ``broken``: neither of the others, since the script failed for a reason of its own.
        detail: its last line.
        seconds: that it took.
    """

    status: Literal["still there", "gone", "broken"]
    detail: str
    seconds: float


def run_script(source: str, seconds: float) -> ScriptResult:
    """Runs the script of a known issue in a process and a folder of its own.

    Args:
        source: of the script.
        seconds: that it may take.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="graphopt-known-") as folder:
        script = Path(folder) / "repro.py"
        script.write_text(source, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(script)],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
            status, output, errors = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            status, output, errors = -1, "", f"no end after {seconds:g} s"
    elapsed = time.perf_counter() - start
    last = (output.strip().splitlines() or [""])[-1]
    if status == 0:
        return ScriptResult("gone", last, elapsed)
    # A script that fails for another reason ends with status 1 too, but does not say so.
    if status == 1 and last.startswith(STILL_THERE):
        return ScriptResult("still there", last.removeprefix(f"{STILL_THERE}: "), elapsed)
    return ScriptResult("broken", (errors.strip().splitlines() or [f"exit status {status}"])[-1], elapsed)
