"""TVM's dlight rules for GPUs, under graphopt's interface."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir

from graphopt.codegen.schedules.blocks import top_blocks
from graphopt.codegen.schedules.cuda.binding import is_bound, why_not_lowered
from graphopt.codegen.schedules.extents import name_extents, restore_extents
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target


def _wrapped(name: str, rule: Any) -> ScheduleRule:
    def apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
        largest = max(top_blocks(schedule), key=lambda b: len(b.axes))
        schedule, names = name_extents(schedule, largest)
        try:
            result = rule.apply(schedule.mod["main"], tvm.target.Target(target.tvm_config()), False)
        except Exception as error:  # dlight says in many ways that a function is not for a rule
            raise NotApplicable(f"{name}: {error}") from error
        found = result[0] if isinstance(result, list) else result
        if found is None or not is_bound(found.mod["main"]):
            raise NotApplicable(f"{name} leaves blocks outside threads")
        found = restore_extents(found, names)
        reason = why_not_lowered(found.mod["main"], target)
        if reason:
            raise NotApplicable(f"{name}: {reason}")
        return found

    return ScheduleRule(name, lambda func, target: True, apply)


def _rules() -> tuple[ScheduleRule, ...]:
    from tvm.s_tir.dlight import gpu

    return (
        _wrapped("dlight-matmul", gpu.Matmul()),
        _wrapped("dlight-gemv", gpu.GEMV()),
        _wrapped("dlight-reduction", gpu.Reduction()),
        _wrapped("dlight-general-reduction", gpu.GeneralReduction()),
        _wrapped("dlight-fallback", gpu.Fallback()),
    )


DLIGHT_RULES = _rules()
