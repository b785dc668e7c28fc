"""Schedule rules for CPUs, in the order in which they are tried."""

from __future__ import annotations

from graphopt.codegen.schedules.rule import ScheduleRule

CPU_RULES: tuple[ScheduleRule, ...] = ()
