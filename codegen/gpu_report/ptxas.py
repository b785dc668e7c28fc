"""What ptxas says of each kernel: registers, spills and static shared memory (``-Xptxas -v``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KERNEL = re.compile(r"Compiling entry function '([^']+)' for '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class KernelResources:
    """What one kernel uses on one architecture.

    Attributes:
        registers: of 32 bits, a thread.
        spill_stores, spill_loads: bytes that a thread moves to and from memory for want of registers.
        stack: bytes of local memory, a thread.
        static_shared: bytes of shared memory of fixed size, a block.
    """

    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    static_shared: int

    @property
    def spills(self) -> bool:
        """Whether registers did not suffice."""
        return bool(self.spill_stores or self.spill_loads)


def read_resources(output: str) -> dict[str, KernelResources]:
    """Resources by kernel, from what ``ptxas -v`` printed; empty if it printed none."""
    found: dict[str, KernelResources] = {}
    parts = _KERNEL.split(output)
    for name, text in zip(parts[1::3], parts[3::3], strict=True):
        stack, used, shared = _STACK.search(text), _USED.search(text), _SHARED.search(text)
        if used is None:
            continue
        frame, stores, loads = (int(n) for n in stack.groups()) if stack else (0, 0, 0)
        found[name] = KernelResources(int(used[1]), stores, loads, frame, int(shared[1]) if shared else 0)
    return found
