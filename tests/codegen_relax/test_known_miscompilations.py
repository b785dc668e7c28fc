# ruff: noqa: E501 - a table, one line a case
"""What TVM 0.27 or its importers get wrong, one named test each, on the smallest case that shows it.

The walk in :mod:`test_converters` covers the same operators broadly; these say what each converter
is there to avoid.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from packing import Compiled  # noqa: E402

from graphopt.ir.program import Program  # noqa: E402
from graphopt.verification import verify  # noqa: E402

CASES: dict[str, tuple[Callable[..., object], tuple[Tensor, ...]]] = {
    "select with a negative index reads in front of the buffer": (
        lambda x: x[:, -1],
        (torch.arange(6).reshape(2, 3),),
    ),
    "selu lacks its scale": (F.selu, (torch.tensor([1.0, -1.0]),)),
    "nearest resize to a size takes wrong pixels": (
        lambda x: F.interpolate(x, size=4, mode="nearest"),
        (torch.arange(3.0).reshape(1, 1, 3),),
    ),
    "nearest resize by a factor takes wrong pixels": (
        lambda x: F.interpolate(x, scale_factor=1.5, mode="nearest"),
        (torch.arange(5.0).reshape(1, 1, 5),),
    ),
    "cumsum of int32 stays int32": (lambda x: x.cumsum(0), (torch.tensor([2**30] * 3, dtype=torch.int32),)),
    "cumsum of bool crashes": (lambda x: x.cumsum(0), (torch.tensor([True, False, True]),)),
    "group norm without affine crashes": (lambda x: F.group_norm(x, 2), (torch.randn(2, 4, 3),)),
    "int64 floor division by a Python int is a type error": (lambda x: x // 3, (torch.arange(-5, 5),)),
    "bool != fails in LLVM": (lambda x, y: x != y, (torch.tensor([True, False]), torch.tensor([True, True]))),
    "bool + fails in LLVM": (lambda x, y: x + y, (torch.tensor([True, False]), torch.tensor([True, False]))),
    "amax is missing": (lambda x: x.amax(1), (torch.randn(3, 4),)),
    "amin is missing": (lambda x: x.amin((0, 1)), (torch.randn(3, 4),)),
    "prod of one axis is missing": (lambda x: x.prod(1), (torch.arange(1, 7).reshape(2, 3),)),
    "any of one axis is missing": (lambda x: x.any(1), (torch.tensor([[0.0, 1.0], [0.0, 0.0]]),)),
    "left shift is missing": (lambda x: x << 2, (torch.arange(5),)),
    "right shift is missing": (lambda x: x >> 1, (torch.arange(-3, 3),)),
    "_int_mm is missing": (torch._int_mm, (torch.ones(32, 16, dtype=torch.int8) * 100, torch.ones(16, 8, dtype=torch.int8) * 100)),
    "mm of int32 returns float32": (torch.mm, (torch.arange(6, dtype=torch.int32).reshape(2, 3), torch.ones(3, 2, dtype=torch.int32))),
    "mm of float16 returns float32": (torch.mm, (torch.randn(2, 3).half(), torch.randn(3, 2).half())),
    "conv of int8 loses its values": (
        lambda x, w: torch.conv2d(x, w),
        (torch.randint(-9, 9, (1, 2, 4, 4)).to(torch.int8), torch.randint(-9, 9, (3, 2, 3, 3)).to(torch.int8)),
    ),
    "cat with an empty tensor is refused": (lambda x, y: torch.cat([x, y], 0), (torch.empty(0), torch.randn(2, 3))),
    "constants of int64 are narrowed": (lambda x: x + 2**40, (torch.arange(3),)),
    "where on integers changes their type": (lambda x: torch.where(x > 1, x, 0), (torch.arange(3),)),
    "isnan is folded to false": (torch.isnan, (torch.tensor([1.0, float("nan")]),)),
    "a maximum over NaN forgets it": (lambda x: x.amax(0), (torch.tensor([1.0, float("nan"), 2.0]),)),
    "tanh has no digits near zero": (torch.tanh, (torch.tensor([1e-6, -3e-5]),)),
}  # fmt: skip


class _Function(torch.nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


@pytest.mark.parametrize("name", CASES)
def test_it_is_right_here(name: str) -> None:
    function, inputs = CASES[name]
    program = Program.from_exported(torch.export.export(_Function(function), inputs))
    compiled = Compiled(program)
    verify(program, compiled, inputs=inputs).raise_if_failed()
    for got, expected in zip(compiled(*inputs), program(*inputs), strict=True):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        if not expected.dtype.is_floating_point:
            assert torch.equal(got, expected)
