"""How long the command line takes before it works: ``graphopt --help`` and its like, from a cold process.

    python -m benchmarks.startup --runs 20

Each run is a process of its own.  The medians stand beside that of an empty Python, of which they are
made for the most part; nothing heavy may be imported (``tests/packaging/test_imports.py``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": ("-c", "pass"),
    "graphopt --help": ("-m", "graphopt", "--help"),
    "graphopt --version": ("-m", "graphopt", "--version"),
    "graphopt compile --help": ("-m", "graphopt", "compile", "--help"),
    "graphopt compile missing.onnx": ("-m", "graphopt", "compile", "missing.onnx"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):  # in turns, so that a slow moment of the machine touches all
        for name, command in COMMANDS.items():
            seconds[name].append(one_run(command))
    print(f"{'command':32} {'median s':>9} {'min s':>7} {'max s':>7}")
    for name, times in seconds.items():
        print(f"{name:32} {statistics.median(times):9.3f} {min(times):7.3f} {max(times):7.3f}")
    if options.json:
        options.json.write_text(json.dumps(seconds, indent=1) + "\n")
    return 0


def one_run(command: Sequence[str]) -> float:
    """Seconds of one process; what it prints and its exit status do not matter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], capture_output=True, check=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
