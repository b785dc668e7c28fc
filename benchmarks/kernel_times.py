"""Where the time of a compiled model goes: ``python -m benchmarks.kernel_times MODEL.so INPUTS.npz``.

Every call of a kernel is timed, which costs about a microsecond a call, so that the sum is more than a run
takes; shares are of the sum.  What the virtual machine does between kernels is left out: it takes a sixth of
a microsecond a kernel (``python -m benchmarks.call_overhead``), and observing it many times that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

RUNS = 10


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_times", description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows = measure(options.artifact, options.inputs)
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(f"{row['us']:10.0f} us {row['share']:6.1%} {row['calls']:4d} x {row['kernel']}")
    return 0


def measure(artifact: Path, inputs: Path) -> list[dict[str, Any]]:
    """A row for each kernel, slowest first: name, microseconds in the fastest of the runs, calls, share."""
    import numpy as np
    import tvm
    from tvm import relax

    with np.load(inputs, allow_pickle=False) as archive:
        tensors = [tvm.runtime.tensor(archive[name]) for name in archive.files]
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(artifact)), tvm.cpu())
    machine["main"](*tensors)
    best: dict[str, float] = {}
    calls: dict[str, int] = {}
    spent: defaultdict[str, list[float]] = defaultdict(list)
    started = 0.0

    def observe(_function: Any, name: Any, before: bool, _result: Any, *_arguments: Any) -> None:
        nonlocal started
        if str(name).startswith("vm."):
            return
        if before:
            started = time.perf_counter()
        else:
            spent[str(name)].append(time.perf_counter() - started)

    machine.set_instrument(observe)
    for _ in range(RUNS):
        spent.clear()
        machine["main"](*tensors)
        for name, times in spent.items():
            best[name] = min(best.get(name, float("inf")), sum(times))
            calls[name] = len(times)
    total = sum(best.values())
    return [
        {"kernel": name, "us": seconds * 1e6, "calls": calls[name], "share": seconds / total}
        for name, seconds in sorted(best.items(), key=lambda item: -item[1])
    ]


def kernel_times(artifact: Path, inputs: Path, threads: int) -> list[dict[str, Any]]:
    """:func:`measure` in a process of its own, with so many threads."""
    command = [sys.executable, "-m", "benchmarks.kernel_times", str(artifact), str(inputs), "--json"]
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return list(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
