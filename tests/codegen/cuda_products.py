"""Products and convolutions, lowered for a GPU and scheduled, for tests that look at the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import tvm
import tvm_ffi
from torch import nn
from tvm import ir, s_tir, tirx

from graphopt.codegen import find_target
from graphopt.codegen.pipeline import FUSE, run_pipeline
from graphopt.codegen.relax import lower
from graphopt.codegen.schedules.cuda import CUDA_RULES
from graphopt.codegen.schedules.rule import schedule_function
from graphopt.codegen.targets import Target
from graphopt.frontends.torch_module import capture_torch


class Linear(nn.Module):
    """A product with an epilogue: bias, activation and residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x)) + residual


class Convolutions(nn.Module):
    """3x3 with a stride, depthwise, and 1x1 with a residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        self.point = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.dense(x))
        return self.point(torch.relu(self.depthwise(y))) + y


def functions(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any = None, target: str = "cuda"
) -> list[tuple[str, tirx.PrimFunc, tirx.PrimFunc, str]]:
    """The kernels of a module: name, as they mean, as they are scheduled, and the rule."""
    chosen = find_target(target)
    program = capture_torch(module.eval(), inputs, dynamic_shapes=shapes)
    mod = run_pipeline(lower(program, chosen).mod, chosen, FUSE)
    return [
        (var.name_hint, func, *schedule_function(func, chosen, CUDA_RULES)[:2])
        for var, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc)
    ]


def serial(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled function with thread loops run one after the other, in ordinary memory."""
    buffers: dict[Any, Any] = {}

    def loop(node: tirx.For) -> tirx.For:
        return tirx.For(node.loop_var, node.min, node.extent, tirx.ForKind.SERIAL, node.body)

    def block(node: s_tir.SBlock) -> s_tir.SBlock:
        return s_tir.SBlock(
            node.iter_vars, node.reads, node.writes, node.name_hint, node.body, node.init, node.alloc_buffers,
            node.match_buffers,
        )  # fmt: skip

    def in_memory(var: Any) -> Any:
        scope = var.scope() if isinstance(var.ty, tirx.BufferType) else ""
        if scope in ("", "global"):
            return var
        if var not in buffers:
            buffers[var] = tirx.decl_buffer(var.shape, var.dtype, var.name)
        return buffers[var]

    func = tvm_ffi.structural_map(func, [(tirx.For, loop), (s_tir.SBlock, block)])
    return tvm_ffi.structural_map(func, [(ir.Var, in_memory)])


def on_cpu(func: tirx.PrimFunc) -> Callable[..., None]:
    """A function compiled for this CPU as it is."""
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    return tvm.compile(module, target={"kind": "llvm"})["main"]  # type: ignore[no-any-return]


def cuda_of(func: tirx.PrimFunc, target: Target) -> str:
    """The CUDA C++ of a scheduled function."""
    from graphopt.codegen.compiler import lowering_context

    with lowering_context(target):
        module = tvm.IRModule({"kernel": func.with_attr("global_symbol", "kernel")})
        built = tvm.tirx.build(module, target=tvm.target.Target(target.tvm_config()), pipeline="s_tir")
    return str(built.imports[0].inspect_source())
