"""What open sizes cost: ``python -m benchmarks.open_sizes --models mobilenet-v2 minilm``.

Each model is compiled twice, for the sizes of its example inputs and for all sizes that it allows, and both
artifacts run on the example inputs by turns, a call each, so that whatever else the machine does meets both.
Milliseconds are medians, *ratio* is the median over the pairs of calls.  Time is that of the calling thread:
run with one thread (``TVM_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.latency import MODELS
from benchmarks.latency_files import prepare, sized

_WARM = 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_sizes", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--seconds", type=float, default=5, help="of measuring each model")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files, and reuse those there")
    options = parser.parse_args(arguments)
    print("| model | open sizes | fixed, ms | open, ms | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="graphopt-open-sizes-") as temporary:
        for name in options.models:
            row = measure(name, options.size, options.seconds, options.keep or Path(temporary))
            print(f"| {name} | {row[0]} | {row[1]:.2f} | {row[2]:.2f} | {row[3]:.2f} |", flush=True)
    return 0


def measure(name: str, size: str, seconds: float, root: Path) -> tuple[str, float, float, float]:
    """Names of the open dimensions, milliseconds with fixed and with open sizes, and their ratio."""
    folders = [root / f"{name.replace('@', '-')}-{size}{suffix}" for suffix in ("", "-dynamic")]
    for folder, dynamic in zip(folders, (False, True), strict=True):
        prepare(name, size, dynamic, folder, ["graphopt"])
    fixed, varying = (_runner(folder / "model.so", folder / "inputs.npz") for folder in folders)
    pairs: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    while len(pairs) < 10 or time.monotonic() < end:
        pairs.append((fixed(), varying()))
    dims = dict.fromkeys(dim for axes in sized(name, size).axes for dim in axes.values())
    medians = [statistics.median(times) * 1e3 for times in zip(*pairs, strict=True)]
    return ", ".join(dims), medians[0], medians[1], statistics.median(b / a for a, b in pairs)


def _runner(library: Path, inputs: Path) -> Callable[[], float]:
    """A function that runs the model once and returns the seconds it took, on a warm model."""
    import numpy as np
    import tvm
    from tvm import relax

    with np.load(inputs, allow_pickle=False) as archive:
        tensors: list[Any] = [tvm.runtime.tensor(archive[name]) for name in archive.files]
    run = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())["main"]
    for _ in range(_WARM):
        run(*tensors)

    def timed() -> float:
        started = time.thread_time()
        run(*tensors)
        return time.thread_time() - started

    return timed


if __name__ == "__main__":
    sys.exit(main())
