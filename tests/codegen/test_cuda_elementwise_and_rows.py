"""Elementwise kernels and row reductions for GPUs, over sizes that vectors, warps and blocks do not divide.

Each is emulated and compared with its unscheduled function in float64: ``docs/emulation.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graphopt.codegen import find_target
from graphopt.codegen.compiler import compile
from graphopt.codegen.emulate import KernelCheck, check_kernels
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from tests.codegen.cuda_products import cuda_of, functions

TARGET = find_target("cuda")


class Function(nn.Module):
    """A function of tensors, with the weights of a part."""

    def __init__(self, function: Callable[..., Any], part: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.part = function, part

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs) if self.part is None else self.function(self.part, *inputs)


class _Checked(Exception):
    pass


def emulated(program: Program) -> list[KernelCheck]:
    """Checks of the program's kernels, all of which have to be right; no binary is made."""
    checks: list[KernelCheck] = []

    def inspect(meanings: Mapping[str, Any], lowered: Mapping[str, Any]) -> None:
        checks.extend(check_kernels(meanings, lowered, TARGET, dims=program.signature.dims))
        raise _Checked

    with pytest.raises(_Checked):
        compile(program, TARGET, cache=False, inspect=inspect)
    assert checks and all(check.ok for check in checks), [c.findings for c in checks]
    return checks


def _values(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(shape) > 0 if dtype == torch.bool else torch.randn(shape).mul(4).to(dtype)


HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.int8, torch.bool], ids=str)
def test_elements_of_every_type(dtype: torch.dtype) -> None:
    def several(x: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole = x & row if dtype == torch.bool else x + row * column
        return whole, x == column, torch.where(x > row, whole, x), torch.cat([x, whole], -1)

    inputs = (_values(dtype, 5, 24), _values(dtype, 24), _values(dtype, 5, 1))
    checks = emulated(capture_torch(Function(several).eval(), inputs))
    assert {check.rule for check in checks} == {"elementwise"}


@pytest.mark.parametrize("columns", [1, 7, 12, 40])
def test_elements_of_rows_that_no_vector_divides(columns: int) -> None:
    def several(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return x.sigmoid(), torch.where(mask, x, 0.0), x[:, 1:] * 2, x.float().mT + 1

    x = _values(torch.float16, 3, columns)
    dynamic = ({0: torch.export.Dim("rows", max=90)}, {0: torch.export.Dim("rows", max=90)})
    program = capture_torch(Function(several).eval(), (x, x > 0), dynamic_shapes=dynamic)
    emulated(program)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_halves_move_in_units_of_128_bits(dtype: torch.dtype) -> None:
    inputs = (_values(dtype, 8, 64), _values(dtype, 64))
    ((_, _, scheduled, rule),) = functions(Function(lambda x, y: F.silu(x * y)), inputs)
    source = cuda_of(scheduled, TARGET)
    assert rule == "elementwise"
    assert len(re.findall(r"\*\(uint4\*\)\(\w+_vector\w* \+ 0\) = \*\(uint4\*\)\(", source)) == 2
    assert len(re.findall(r"\*\(uint4\*\)\([^;]*\) = \*\(uint4\*\)\(\w+_vector", source)) == 1


ROWS: dict[str, tuple[Callable[..., Any], nn.Module | None, tuple[int, ...], torch.dtype]] = {
    "softmax of a prime": (lambda x: F.softmax(x, -1), None, (7, 53), torch.float32),
    "softmax in vectors": (lambda x: F.softmax(x, -1), None, (3, 2, 256), torch.float16),
    "softmax of many rows": (lambda x: F.log_softmax(x, -1), None, (516, 64), torch.float32),
    "softmax of long rows": (lambda x: F.softmax(x, -1), None, (2, 2049), torch.float32),
    "layer norm": (lambda p, x: p(x) + x, nn.LayerNorm(384), (2, 5, 384), torch.float32),
    "layer norm, ragged": (lambda p, x: F.relu(p(x)), nn.LayerNorm(100), (3, 100), torch.bfloat16),
    "layer norm, long": (lambda p, x: p(x), nn.LayerNorm(2048), (3, 2048), torch.float16),
    "rms norm": (lambda p, x: p(x), nn.RMSNorm(576), (4, 576), torch.float16),
    "mean": (lambda x: x.mean(-1), None, (600, 33), torch.float32),
    "variance": (lambda x: x.var(-1), None, (5, 64), torch.float32),
    "a vector times a matrix": (lambda p, x: F.relu(p(x)), nn.Linear(512, 37), (1, 512), torch.float32),
    "three rows, ragged": (lambda p, x: p(x), nn.Linear(77, 33), (1, 3, 77), torch.bfloat16),
    "a step of decoding": (
        lambda p, x: F.silu(p(x)) * x, nn.Linear(576, 576, bias=False), (1, 1, 576), torch.float16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str) -> None:
    function, part, shape, dtype = ROWS[name]
    module = Function(function, part).eval().to(dtype)
    (check,) = emulated(capture_torch(module, (_values(dtype, *shape).mul(0.25),)))
    assert check.rule == "row-reduction"
    (launch,) = check.resources
    short = shape[-1] < 2048
    assert (launch.static_shared + launch.dynamic_shared == 0) == short
    # Of 512 rows and more, each an element of the result in a product, four share a block.
    many = name in ("softmax of many rows", "mean", "a step of decoding")
    assert launch.threads == (256 if not short else 128 if many else 32)


def test_rows_of_symbolic_number_and_length() -> None:
    auto = torch.export.Dim.AUTO
    x = torch.randn(4, 3, 70)
    function = Function(lambda p, x: (p(x), F.softmax(x.mT, -1)), nn.LayerNorm(70)).eval()
    checks = emulated(capture_torch(function, (x,), dynamic_shapes=({0: auto, 1: auto},)))
    assert [c.rule for c in checks if "norm" in c.name or "softmax" in c.name] == ["row-reduction"] * 2


def test_each_element_of_a_row_is_computed_once() -> None:
    """A norm keeps the reduced axis as one of size 1, which is not an axis of rows."""
    ((_, _, scheduled, _),) = functions(nn.LayerNorm(256).half(), (torch.randn(6, 256).half(),))
    kernel = cuda_of(scheduled, TARGET).rpartition("__launch_bounds__")[2]
    assert "blockIdx.x) * 256" in kernel and kernel.count("__shfl_sync") == 2
