"""Runs the rules of a target over a module."""

from __future__ import annotations

import tvm
from tvm import tirx

from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE, ScheduleRule, schedule_function
from graphopt.codegen.targets import Target

OWN_SCHEDULE = "tirx.is_scheduled"


def schedule_module(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """See :func:`graphopt.codegen.schedules.apply_schedules`."""
    rules = rules_of(target)
    scheduled = {}
    for name, func in mod.functions_items():
        if not isinstance(func, tirx.PrimFunc):
            continue
        attributes = func.attrs or {}
        if RULE_ATTRIBUTE in attributes:
            continue
        if OWN_SCHEDULE in attributes:
            scheduled[name] = func.with_attr(RULE_ATTRIBUTE, "own")
            continue
        new = schedule_function(func, target, rules)
        scheduled[name] = new.function.with_attr(RULE_ATTRIBUTE, new.rule)
    result = mod.clone() if hasattr(mod, "clone") else tvm.IRModule(mod.functions, attrs=mod.attrs)
    for name, func in scheduled.items():
        result[name] = func
    return result


def rules_of(target: Target) -> tuple[ScheduleRule, ...]:
    """The rules for a target, in the order in which they are tried."""
    if target.kind == "cuda":
        from graphopt.codegen.schedules.cuda import CUDA_RULES

        return CUDA_RULES
    from graphopt.codegen.schedules.cpu import CPU_RULES

    return CPU_RULES
