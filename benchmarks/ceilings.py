"""What this machine can do at most: the two ceilings of the roofline model (Williams et al., CACM 2009).

``python -m benchmarks.ceilings --threads 1`` prints JSON: ``gflops``, the highest rate of float32 operations
that a matrix product reached, the better of torch's and our own (two operations a multiply-add), and
``gbs``, the highest rate of reading memory, in a sum over 256 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

_SIZE = 1536
_RUNS = 15


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceilings", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    a, b = torch.randn(_SIZE, _SIZE), torch.randn(_SIZE, _SIZE)
    result = torch.empty_like(a)
    product = min(_best(lambda: torch.mm(a, b, out=result)), _ours())
    memory = torch.ones(1 << 26)
    read = _best(memory.sum)
    print(json.dumps({"gflops": 2 * _SIZE**3 / product / 1e9, "gbs": memory.nbytes / read / 1e9}))
    return 0


def _ours() -> float:
    """Seconds of our product of that size, whose weights are packed."""
    import torch

    import graphopt

    layer = torch.nn.Linear(_SIZE, _SIZE, bias=False).eval().requires_grad_(False)
    x = torch.randn(_SIZE, _SIZE)
    artifact = graphopt.compile(graphopt.capture(layer, (x,)), target="cpu")
    return _best(lambda: artifact(x))


def _best(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def ceilings(threads: int) -> dict[str, float]:
    """The figures, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ceilings", "--threads", str(threads)]
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
