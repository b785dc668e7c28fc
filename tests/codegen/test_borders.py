"""Windows over the border of an image: what is tested where."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from tvm import ir, s_tir, tirx

from graphopt.codegen import find_target
from graphopt.codegen.pipeline import FUSE, run_pipeline
from graphopt.codegen.relax import lower
from graphopt.codegen.schedules.blocks import collect, mentions
from graphopt.codegen.schedules.cpu import CPU_RULES
from graphopt.codegen.schedules.rule import schedule_function
from graphopt.frontends.torch_module import capture_torch


def scheduled(
    module: nn.Module, *shape: int, kernels: tuple[str, ...] = ("depthwise", "sums")
) -> tirx.PrimFunc:
    """The only kernel with windows, after its schedule."""
    target = find_target("cpu")
    program = capture_torch(module.eval(), (torch.randn(shape),))
    mod = run_pipeline(lower(program, target).mod, target, FUSE)
    (kernel,) = (f for v, f in mod.functions_items() if any(k in v.name_hint for k in kernels))
    return schedule_function(kernel, target, CPU_RULES).function


def depthwise(size: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 32, 1), nn.Conv2d(32, 32, size, padding=size // 2, groups=32))


def conditions(statement: tirx.Stmt) -> list[tirx.Expr]:
    """What elements are tested for."""
    calls = collect(statement, ir.Call)
    return [c.args[0] for c in calls if getattr(c.op, "name", "") == "prim.if_then_else"]


@pytest.mark.parametrize("module", [depthwise(3), depthwise(5)], ids=["3x3", "5x5"])
def test_one_branch_for_a_row_of_taps_and_one_for_a_tile(module: nn.Module) -> None:
    function = scheduled(module, 1, 4, 14, 14)
    tile, row = collect(function.body, tirx.IfThenElse)
    assert conditions(tile.then_case) == [], "a tile inside of the image"
    (block,) = (r.block for r in collect(tile.else_case, s_tir.SBlockRealize))
    tap = next(v.var for v in block.iter_vars if v.iter_type == tirx.IterVar.CommReduce)
    assert conditions(block.body)
    assert not any(mentions(condition, tap) for condition in conditions(block.body))
    assert mentions(
        row.condition, next(f.loop_var for f in collect(function.body, tirx.For) if f.body.same_as(row))
    )


@pytest.mark.parametrize(("width", "unrolled"), [(14, True), (112, False)])
def test_few_tiles_of_a_row_are_unrolled(width: int, unrolled: bool) -> None:
    """The tests on columns are constants then."""
    function = scheduled(depthwise(3), 1, 4, 14, width)
    tiles = [
        loop
        for loop in collect(function.body, tirx.For)
        if loop.kind == tirx.ForKind.UNROLLED and collect(loop.body, tirx.IfThenElse)
    ]
    assert bool(tiles) is unrolled


class Average(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def test_average_pooling_is_a_sum_over_windows() -> None:
    function = scheduled(nn.Sequential(nn.Conv2d(4, 32, 1), Average()), 1, 4, 14, 14)
    assert len(collect(function.body, tirx.IfThenElse)) == 2


def test_vectors_over_rows_of_a_copied_border_stay_whole() -> None:
    """Five channels are no vector, so vectors run on over the columns, and over the tests on them."""
    module = nn.Sequential(nn.ConvTranspose2d(5, 1, 4, 4, 1, 1), nn.ReLU())
    function = scheduled(module, 1, 5, 3, 5, kernels=("packed",))
    assert conditions(function.body)
    assert not [c for c in collect(function.body, ir.Call) if getattr(c.op, "name", "") == "prim.likely"]
