"""Schedule rules for NVIDIA GPUs, in the order in which they are tried.

Products, convolutions, reductions of rows and elementwise kernels have rules of graphopt's own.  Other
reductions are left to TVM's dlight rules, whose names say so.  The last rules are for what remains: a kernel
without thread bindings cannot be launched.
"""

from __future__ import annotations

from graphopt.codegen.schedules.cuda.dlight import DLIGHT_RULES
from graphopt.codegen.schedules.cuda.elementwise import ELEMENTWISE
from graphopt.codegen.schedules.cuda.fallback import BIND_THREADS
from graphopt.codegen.schedules.cuda.gemm import CUDA_CORE_GEMM, TENSOR_CORE_GEMM
from graphopt.codegen.schedules.cuda.row_reduction import ROW_REDUCTION
from graphopt.codegen.schedules.cuda.sequential import SEQUENTIAL_ROWS
from graphopt.codegen.schedules.cuda.windows import WINDOWS
from graphopt.codegen.schedules.rule import ScheduleRule

CUDA_RULES: tuple[ScheduleRule, ...] = (
    TENSOR_CORE_GEMM,
    CUDA_CORE_GEMM,
    ELEMENTWISE,
    WINDOWS,
    ROW_REDUCTION,
    *DLIGHT_RULES,
    BIND_THREADS,
    SEQUENTIAL_ROWS,
)
