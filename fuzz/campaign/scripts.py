"""Scripts that show known issues: whether they still do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from graphopt.fuzz.campaign.records import CaseRecord
from graphopt.fuzz.findings import Problem, Signature, normalised

STILL_THERE = "still there"
"""How the last line of a script begins that shows its issue; its exit status is then 1, and 0 otherwise."""


def run_script(index: int, name: str, source: str, seconds: float) -> CaseRecord:
    """Runs the script of a known issue in a process and a folder of its own.

    Args:
        index: its place in the list of issues.
        name: of the issue.
        source: of the script.
        seconds: that it may take.

    Returns:
        ``ok`` where it shows the issue, ``gone`` where it does not any more, and ``found`` where it does not
        run.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
        script = Path(folder) / "repro.py"
        script.write_text(source, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(script)],
                cwd=folder,
                env=os.environ,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
            status, words = done.returncode, done.stderr
        except subprocess.TimeoutExpired:
            status, words = -1, "it takes too long"
            done = None
    elapsed = {"script": time.perf_counter() - start}
    lines = done.stdout.strip().splitlines() if done is not None else []
    if status == 0:
        return CaseRecord("known", index, name, "gone", elapsed)
    if status == 1 and lines and lines[-1].startswith(STILL_THERE):
        return CaseRecord("known", index, name, "ok", elapsed)
    last = (words.strip().splitlines() or [f"exit status {status}"])[-1]
    problem = Problem(Signature("fuzzer", "script", "exception", name), f"{name}: {normalised(last)}")
    return CaseRecord("known", index, name, "found", elapsed, (problem,), ("",))
