"""Whether a function can be launched as a kernel: every store lies inside a thread."""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx


def is_bound(func: tirx.PrimFunc) -> bool:
    """Whether all blocks of a function are inside a ``threadIdx`` loop."""
    schedule = s_tir.Schedule(func)
    root = schedule.get_sblock("root")
    return all(_in_thread(schedule, b) for b in schedule.get_child_blocks(root))


def _in_thread(schedule: s_tir.Schedule, block: Any) -> bool:
    for loop in schedule.get_loops(block):
        binding = schedule.get(loop).thread_binding
        if binding is not None and str(binding.thread_tag).startswith("threadIdx"):
            return True
    return False
