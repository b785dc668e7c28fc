"""How long models take to compile, and how much memory: ``python -m benchmarks.compile_time``.

Each compilation is a process of its own.  Seconds are of ``graphopt.compile`` alone, without capture; the
second finds the first one's result in the cache.  Memory is the peak of the process, and what of it was
there before code generation began (the frameworks, the model and its weights).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

MODELS = (
    "ppocr-cls", "ppocr-det", "resnet50", "mobilenet-v2", "vit-s", "swin-t", "minilm", "smollm2-prefill",
    "smollm2-decode",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--dynamic", action="store_true", help="compile for varying sizes")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(compile_once(options.child, options.dynamic)))
        return 0
    print(f"{'model':20}{'first s':>9}{'CPU s':>8}{'again s':>9}{'before MB':>11}{'peak MB':>9}")
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="graphopt-compile-time-") as cache:
            first, again = (in_process(name, options.dynamic, cache) for _ in range(2))
        print(
            f"{name:20}{first['seconds']:9.1f}{first['cpu_seconds']:8.1f}{again['seconds']:9.2f}"
            f"{first['before_mb']:11.0f}{first['peak_mb']:9.0f}",
            flush=True,
        )
    return 0


def in_process(name: str, dynamic: bool, cache: str) -> dict[str, Any]:
    """:func:`compile_once` in a process of its own, with a cache of its own."""
    command = [sys.executable, "-m", "benchmarks.compile_time", "--child", name]
    command += ["--dynamic"] if dynamic else []
    environment = {"HF_HUB_OFFLINE": "1", **os.environ, "GRAPHOPT_CACHE": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compile_once(name: str, dynamic: bool) -> dict[str, Any]:
    """Seconds, CPU seconds and memory of compiling one model for this CPU."""
    import graphopt
    from benchmarks.latency_files import sized
    from graphopt import PassManager
    from graphopt import passes as P

    program = sized(name, "full").capture(dynamic=dynamic)
    cleaned = PassManager([P.Cleanup()], verify="off").run(program).program
    import tvm  # noqa: F401  (its import is not part of a compilation)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    graphopt.compile(cleaned, target="cpu")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "before_mb": before / 1024,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    sys.exit(main())
