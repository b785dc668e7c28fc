"""TVM's dlight rules for GPUs, under graphopt's interface."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir

from graphopt.codegen.schedules.cuda.binding import is_bound
from graphopt.codegen.schedules.rule import NotApplicable, ScheduleRule
from graphopt.codegen.targets import Target


def _wrapped(name: str, rule: Any) -> ScheduleRule:
    def apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
        try:
            result = rule.apply(schedule.mod["main"], tvm.target.Target(target.tvm_config()), False)
        except Exception as reason:  # dlight says in many ways that a function is not for a rule
            raise NotApplicable(f"{name}: {reason}") from reason
        found = result[0] if isinstance(result, list) else result
        if found is None or not is_bound(found.mod["main"]):
            raise NotApplicable(f"{name} leaves blocks outside threads")
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
