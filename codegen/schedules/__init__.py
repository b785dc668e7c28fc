"""Schedules: how the loops of each kernel are arranged for a target.

:func:`apply_schedules` is the one entry point.  Rules live in :mod:`graphopt.codegen.schedules.cpu`
and :mod:`graphopt.codegen.schedules.cuda`; ``docs/targets.md`` shows how to add one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm

    from graphopt.codegen.targets import Target


def apply_schedules(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """Schedule every TensorIR function of ``mod`` that is not scheduled yet.

    Functions that bring their own schedule carry the attribute ``tirx.is_scheduled``.
    """
    from graphopt.codegen.schedules.apply import schedule_module

    return schedule_module(mod, target)
