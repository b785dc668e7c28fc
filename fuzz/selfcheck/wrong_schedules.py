"""Wrong schedules and layouts: loops that do not compute what they were made of."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from graphopt.fuzz.selfcheck.variant import replaced, variant

Patch = AbstractContextManager[Any]


def _rule(owner: Any, rule: str, wrong: Any) -> Patch:
    """Another ``apply`` of a schedule rule: ``wrong(right, schedule, target, decisions)``."""
    from dataclasses import replace

    from graphopt.codegen.schedules import cpu

    before = getattr(owner, rule)

    def apply(schedule: Any, target: Any, decisions: Any) -> Any:
        return wrong(before.apply, schedule, target, decisions)

    rules = tuple(replace(r, apply=apply) if r is before else r for r in cpu.CPU_RULES)
    return replaced(cpu, "CPU_RULES", rules)


@variant(
    "schedule of elementwise functions",
    "the last element of a loop is not computed",
    within=100,
    stage="compile",
)
def tail_one_short() -> Patch:
    from graphopt.codegen.schedules.cpu import injective

    def wrong(right: Any, schedule: Any, target: Any, decisions: Any) -> Any:
        return _shortened(right(schedule, target, decisions) or schedule)

    return _rule(injective, "INJECTIVE", wrong)


def _shortened(schedule: Any) -> Any:
    """The outermost loop runs once less, where it runs more than once."""
    from tvm import tirx

    from graphopt.codegen.schedules.extents import mapped

    seen: list[Any] = []

    def shorter(loop: Any) -> Any:
        extent = loop.extent
        if (
            seen
            or not isinstance(extent, tirx.IntImm)
            or int(extent) < 2
            or loop.kind == tirx.ForKind.VECTORIZED
        ):
            return loop
        seen.append(loop)
        return tirx.For(loop.loop_var, loop.min, extent - 1, loop.kind, loop.body)

    return mapped(schedule, [(tirx.For, shorter)])


@variant("schedule of row reductions", "sums start from what the memory held before", within=300,
         stage="compile", needs=("sum", "mean", "softmax", "norm", "amax", "amin", "var"))  # fmt: skip
def reduction_without_start() -> Patch:
    from tvm import s_tir

    from graphopt.codegen.schedules.cpu import row_reduction
    from graphopt.codegen.schedules.extents import mapped

    def without(block: Any) -> Any:
        if block.init is None:
            return block
        return s_tir.SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, block.body, None, block.alloc_buffers
        )

    def wrong(right: Any, schedule: Any, target: Any, decisions: Any) -> Any:
        return mapped(right(schedule, target, decisions) or schedule, [(s_tir.SBlock, without)])

    return _rule(row_reduction, "ROW_REDUCTION", wrong)


@variant("layout of packed weights", "the columns of a panel are in reverse order", within=400,
         stage="compile", needs=("linear", "matmul", "mm.", "conv"))  # fmt: skip
def panels_in_reverse() -> Patch:
    from graphopt.codegen.relax import packed

    right = packed._panels
    return replaced(packed, "_panels", lambda matrix, columns: right(matrix, columns).flip(-1))


@variant("epilogue of packed products", "the bias is not added", within=400, stage="compile",
         needs=("linear", "addmm", "conv"))  # fmt: skip
def epilogue_without_bias() -> Patch:
    from graphopt.codegen.relax import packed

    return replaced(packed, "_bias", lambda context, bias: [])


@variant("borders of packed convolutions", "pixels outside of the image are one instead of zero", within=600,
         stage="compile", needs=("conv2d",))  # fmt: skip
def borders_of_ones() -> Patch:
    from graphopt.codegen.relax import packed, scalars

    class Ones:
        def __getattr__(self, name: str) -> Any:
            return getattr(scalars, name)

        def constant(self, value: Any, dtype: str) -> Any:
            return scalars.constant(1 if value == 0 else value, dtype)

    return replaced(packed, "s", Ones())
