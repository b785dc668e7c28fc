"""Schedule rules for NVIDIA GPUs, in the order in which they are tried.

The first five are TVM's dlight rules.  The last two are graphopt's own, for what remains: a kernel
without thread bindings cannot be launched.
"""

from __future__ import annotations

from graphopt.codegen.schedules.cuda.dlight import DLIGHT_RULES
from graphopt.codegen.schedules.cuda.fallback import BIND_THREADS
from graphopt.codegen.schedules.cuda.gemm import CUDA_CORE_GEMM, TENSOR_CORE_GEMM
from graphopt.codegen.schedules.cuda.sequential import SEQUENTIAL_ROWS
from graphopt.codegen.schedules.rule import ScheduleRule

CUDA_RULES: tuple[ScheduleRule, ...] = (TENSOR_CORE_GEMM, CUDA_CORE_GEMM, *DLIGHT_RULES, BIND_THREADS, SEQUENTIAL_ROWS)
