"""Matrix products and convolutions on tensor cores and CUDA cores.

A thread block computes one tile of the result.  Steps of the depth are copied to shared memory with
``cp.async`` while earlier ones are multiplied (a software pipeline of several stages), rows of shared
memory are padded so that a warp's loads fall into different banks, and the epilogue (bias, activation,
residual, rounding) runs on the tile before it is written.  (CUTLASS: Kerr et al., "CUTLASS: Fast Linear
Algebra in CUDA C++", NVIDIA, 2017; the multi-stage pipeline is that of its Ampere kernels.)

The kernels (:mod:`graphopt.codegen.relax.gemm`) bring their tile along, and stages ``left`` and ``right``
that hold operands in whole tiles: here they become the copies to shared memory.
"""

from __future__ import annotations

from tvm import s_tir, tirx

from graphopt.codegen.schedules.blocks import Block, top_blocks
from graphopt.codegen.schedules.cuda.cuda_cores import multiply_on_cuda_cores
from graphopt.codegen.schedules.cuda.epilogue import guard_epilogue, prepare_epilogue
from graphopt.codegen.schedules.cuda.tensor_cores import multiply_on_tensor_cores
from graphopt.codegen.schedules.cuda.tiles import GEMM_TILE, GemmTile
from graphopt.codegen.schedules.rule import ScheduleRule
from graphopt.codegen.targets import Target


def _tile_of(block: Block) -> GemmTile | None:
    values = dict(block.stmt.annotations).get(GEMM_TILE)
    return None if values is None else GemmTile.read(values)


def _rule(name: str, tensor_cores: bool) -> ScheduleRule:
    def applies(func: tirx.PrimFunc, target: Target) -> bool:
        tiles = [t for b in top_blocks(s_tir.Schedule(func)) if (t := _tile_of(b)) is not None]
        return len(tiles) == 1 and tiles[0].tensor_cores == tensor_cores

    def apply(schedule: s_tir.Schedule, target: Target) -> s_tir.Schedule:
        main, tile = next((b, t) for b in top_blocks(schedule) if (t := _tile_of(b)) is not None)
        schedule, epilogue = prepare_epilogue(schedule, main.name, tile)
        main = Block(schedule, schedule.get_sblock(main.name))
        arrange = multiply_on_tensor_cores if tensor_cores else multiply_on_cuda_cores
        arrange(schedule, main, epilogue, tile, target)
        return guard_epilogue(schedule, epilogue)

    return ScheduleRule(name, applies, apply)


TENSOR_CORE_GEMM = _rule("tensor-core-gemm", True)
CUDA_CORE_GEMM = _rule("cuda-core-gemm", False)
