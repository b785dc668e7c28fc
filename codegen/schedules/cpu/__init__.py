"""Schedule rules for CPUs, in the order in which they are tried."""

from __future__ import annotations

from graphopt.codegen.schedules.cpu.contraction import CONTRACTION
from graphopt.codegen.schedules.cpu.injective import INJECTIVE
from graphopt.codegen.schedules.cpu.packed import PACKED
from graphopt.codegen.schedules.cpu.row_reduction import ROW_REDUCTION
from graphopt.codegen.schedules.cpu.strassen import STRASSEN_PRODUCT
from graphopt.codegen.schedules.cpu.winograd import WINOGRAD_CONVOLUTION
from graphopt.codegen.schedules.rule import ScheduleRule

CPU_RULES: tuple[ScheduleRule, ...] = (
    INJECTIVE,
    WINOGRAD_CONVOLUTION,
    STRASSEN_PRODUCT,
    PACKED,
    CONTRACTION,
    ROW_REDUCTION,
)
