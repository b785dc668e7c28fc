"""What a call costs beside the work: ``python -m benchmarks.call_overhead``.

Chains of kernels that do next to nothing are called through the virtual machine and through the artifact;
microseconds of the calling thread, medians.  The slope over the length of the chain is the cost of a kernel.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

_LENGTHS = (1, 65)
_CALLS = 2000


class _Chain(nn.Module):
    """Sums of one element, which fusion does not merge."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.length):
            x = torch.cumsum(x, 0)
        return x


def main() -> int:
    machine, artifact = ([times[i] for times in map(_measure, _LENGTHS)] for i in (0, 1))
    kernels = _LENGTHS[1] - _LENGTHS[0]
    print(f"a kernel: {(machine[1] - machine[0]) / kernels:.2f} us")
    print(f"a call of the virtual machine, with one kernel: {machine[0]:.1f} us")
    print(f"a call of the artifact, with one kernel: {artifact[0]:.1f} us")
    return 0


def _measure(length: int) -> tuple[float, float]:
    """Microseconds of a call of a chain: of the virtual machine, and of the artifact."""
    import tvm
    from tvm import relax

    from graphopt.codegen import compile
    from graphopt.frontends.torch_module import capture_torch

    x = torch.ones(1)
    artifact = compile(capture_torch(_Chain(length).eval(), (x,)), "cpu", cache=False, tuned=False)
    run = relax.VirtualMachine(tvm.runtime.load_module(str(artifact.path)), tvm.cpu())["main"]
    tensor = tvm.runtime.from_dlpack(x)
    return _median(lambda: run(tensor)), _median(lambda: artifact(x))


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_CALLS):
        started = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - started)
    return statistics.median(times) / 1e3


if __name__ == "__main__":
    sys.exit(main())
