"""Choices of schedules: the defaults are what an untuned compilation does, and all others are as right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
import tvm_ffi
from torch import nn
from tvm import relax
from tvm_ffi import structural_equal

from graphopt.codegen import find_target
from graphopt.codegen.pipeline import SCHEDULE, run_pipeline
from graphopt.codegen.relax import packed
from graphopt.codegen.schedules.apply import rules_of
from graphopt.codegen.schedules.cpu.retile import retile
from graphopt.codegen.schedules.cpu.tiling import PackedTile
from graphopt.codegen.schedules.decisions import Decisions, UnknownDecision
from graphopt.codegen.schedules.rule import schedule_function
from graphopt.codegen.tuning.kernel import Kernel, arrange, find_kernels, kernel_key
from tests.tuning.kernels import TARGET, fused, kernels_of, program_of

MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "product": (nn.Sequential(nn.Linear(24, 40), nn.ReLU()), (10, 24)),
    "convolution": (nn.Conv2d(5, 20, 3, 2, 1), (1, 5, 11, 13)),
    "depthwise": (nn.Conv2d(24, 24, 3, 1, 1, groups=24), (1, 24, 9, 10)),
    "pooling": (nn.AvgPool2d(3), (1, 8, 30, 30)),
    "softmax": (nn.Softmax(-1), (33, 96)),
    "elementwise": (nn.Hardswish(), (3, 1000)),
}


@pytest.mark.parametrize("name", MODULES)
def test_deciding_for_the_defaults_changes_nothing(name: str) -> None:
    module, shape = MODULES[name]
    kernels = kernels_of(module, torch.zeros(shape))
    assert any(k.space for k in kernels)
    for kernel in kernels:
        plain = schedule_function(kernel.function, TARGET, rules_of(TARGET))
        decided = arrange(kernel.function, TARGET, {k: c.default for k, c in kernel.space.items()})
        assert decided.rule == plain.rule and decided.panels is None
        assert structural_equal(decided.function, plain.function)


def test_an_untuned_compilation_is_what_the_rules_do_by_default() -> None:
    mod = fused(program_of(*_example("convolution")))
    scheduled = run_pipeline(mod, TARGET, SCHEDULE)
    for var, func in mod.functions_items():
        if isinstance(func, tvm.tirx.PrimFunc):
            default = schedule_function(func, TARGET, rules_of(TARGET)).function
            assert structural_equal(scheduled[var.name_hint].without_attr("graphopt.schedule"), default)


def test_another_choice_is_another_schedule() -> None:
    (kernel,) = (k for k in kernels_of(*_example("product")) if "matmul" in k.name)
    default = arrange(kernel.function, TARGET).function
    for name, choice in kernel.space.items():
        other = next(o for o in choice.options if o != choice.default)
        assert not structural_equal(arrange(kernel.function, TARGET, {name: other}).function, default), name


@pytest.mark.parametrize("name", ("product", "convolution", "depthwise"))
@pytest.mark.parametrize("tile", (PackedTile(3, 8), PackedTile(5, 4), PackedTile(1, 24), PackedTile(6, 8)))
def test_a_kernel_with_another_tile_is_what_lowering_makes_with_that_tile(
    name: str, tile: PackedTile, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of(*_example(name))
    before = fused(program)
    monkeypatch.setattr(PackedTile, "of", staticmethod(lambda *_, **__: tile))
    monkeypatch.setattr(packed, "_channels_at_once", lambda *_: tile.columns)
    after = fused(program)
    first, wanted = _product(before), _product(after)
    decided = {name: wanted.space[name].default for name in ("panel.rows", "panel.columns")}
    assert decided["panel.columns"] == tile.columns
    found, panels = retile(first.function, TARGET, Decisions(decided))
    assert structural_equal(found, wanted.function)
    weights = _weights(before, first.name)
    assert np.array_equal(weights if panels is None else panels.repack(weights), _weights(after, wanted.name))


def test_unknown_choices_and_values_are_refused() -> None:
    (kernel,) = (k for k in kernels_of(*_example("product")) if "matmul" in k.name)
    for decided in ({"panel.height": 4}, {"unrolled": 2}, {"panel.columns": 7}, {"parallel": 9}):
        with pytest.raises(UnknownDecision):
            arrange(kernel.function, TARGET, decided)
    with pytest.raises(UnknownDecision, match="registers"):
        arrange(kernel.function, TARGET, {"panel.columns": 32, "panel.rows": 10})


def test_the_key_of_a_kernel_is_that_of_what_it_computes() -> None:
    (a,) = (k for k in kernels_of(nn.Linear(8, 16), torch.zeros(4, 8)) if k.space)
    (b,) = (k for k in kernels_of(nn.Linear(8, 16), torch.ones(4, 8)) if k.space)
    (c,) = (k for k in kernels_of(nn.Linear(8, 24), torch.zeros(4, 8)) if k.space)
    assert a.key == b.key != c.key
    renamed = a.function.with_attr("global_symbol", "another")
    assert kernel_key(renamed, TARGET) == a.key
    assert kernel_key(a.function, find_target("x86-64-v4")) != a.key


def test_equal_kernels_are_one_with_all_its_calls() -> None:
    layer = nn.Linear(16, 16)
    twice = nn.Sequential(layer, nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    (kernel,) = (k for k in kernels_of(twice, torch.zeros(4, 16)) if "matmul" in k.name)
    assert kernel.calls == 2


def test_kernels_of_symbolic_sizes_are_not_tuned() -> None:
    program = program_of(nn.Linear(8, 16), torch.zeros(4, 8), dynamic=({0: torch.export.Dim("n", max=64)},))
    assert [k.skipped for k in find_kernels(fused(program), TARGET)] == ["symbolic sizes"]


def _example(name: str) -> tuple[nn.Module, torch.Tensor]:
    module, shape = MODULES[name]
    torch.manual_seed(1)
    return module, torch.randn(shape)


def _product(mod: tvm.IRModule) -> Kernel:
    (kernel,) = (k for k in find_kernels(mod, TARGET) if k.rule == "packed-product")
    return kernel


def _weights(mod: tvm.IRModule, kernel: str) -> np.ndarray:
    """The packed weights that the program passes to a kernel."""
    found: list[np.ndarray] = []

    def visit(call: relax.Call) -> None:
        if call.op == tvm.ir.Op.get("relax.call_tir") and call.args[0].name_hint == kernel:
            constants = [a for a in call.args[1].fields if isinstance(a, tvm.ir.GenericConst)]
            found.append(constants[0].value.numpy())

    tvm_ffi.structural_walk(mod["main"], (relax.Call, visit))
    return found[0]
