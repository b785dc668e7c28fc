"""Kernels timed inside their model.

``python -m graphopt.codegen.tuning.context BEFORE AFTER INPUTS SECONDS`` is the process that does it.

Alone in a loop a kernel finds its operands in cache; in the model it finds what the kernels before it
left.  What is faster only alone is found here, and is no gain.  Two artifacts of one program run in
turns, and the minimum over the runs counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from graphopt.codegen.tuning.database import as_line
from graphopt.errors import InternalError

_LEAST_RUNS = 10


def kernel_times(
    before: Path, after: Path, inputs: Path, threads: int, seconds: float = 4.0
) -> list[dict[str, float]]:
    """Microseconds that all calls of a kernel take in one run, by name, in each of two artifacts.

    Args:
        inputs: ``.npz`` with the arrays in the order of the program's inputs.
        seconds: to go on for; at least ten runs.

    Raises:
        InternalError: GO-1000, the process that measures ended.
    """
    done = subprocess.run(
        [sys.executable, "-m", "graphopt.codegen.tuning.context", before, after, inputs, str(seconds)],
        capture_output=True,
        text=True,
        env={**os.environ, "TVM_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise InternalError(f"kernels could not be timed in their model: {as_line(done.stderr[-200:])}")
    times: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return times


class _Timed:
    """An artifact whose kernels are timed as it runs."""

    def __init__(self, path: str) -> None:
        self.best: dict[str, float] = {}
        self._run: dict[str, float] = {}
        self._start = 0.0
        machine = relax.VirtualMachine(tvm.runtime.load_module(path), tvm.cpu())
        machine.set_instrument(self._around)
        self._main = machine["main"]

    def run(self, arguments: list[Any]) -> None:
        self._run = {}
        self._main(*arguments)
        for name, seconds in self._run.items():
            self.best[name] = min(self.best.get(name, seconds), seconds)

    def _around(self, func: Any, name: str, before_run: bool, result: Any, *arguments: Any) -> int:
        now = time.perf_counter()
        if not before_run:
            self._run[name] = self._run.get(name, 0.0) + now - self._start
        self._start = time.perf_counter()
        return 0


def main(before: str, after: str, inputs: str, seconds: str) -> None:
    with np.load(inputs) as arrays:
        arguments = [tvm.runtime.tensor(a) for a in arrays.values()]
    both: Mapping[int, _Timed] = {0: _Timed(before), 1: _Timed(after)}
    start, runs = time.perf_counter(), 0
    while runs < _LEAST_RUNS or time.perf_counter() - start < float(seconds):
        for number in (runs % 2, 1 - runs % 2):
            both[number].run(arguments)
        runs += 1
    print(json.dumps([{k: v * 1e6 for k, v in timed.best.items()} for timed in both.values()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
