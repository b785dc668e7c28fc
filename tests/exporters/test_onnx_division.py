"""Rounded division and scattered reductions in ONNX: torch.onnx 2.13 writes others than torch computes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

import graphopt as go
from graphopt.verification import OnnxRuntimeRunner

INFINITY = float("inf")
DIVIDENDS = torch.tensor([1.0, 0.3, -1.0, 5.0, -5.0, 0.0, INFINITY, 7.0, 1.0])
DIVISORS = torch.tensor([0.1, 0.1, 0.1, 3.0, 3.0, 2.0, 2.0, INFINITY, 0.0])
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)


class Divisions(torch.nn.Module):
    """By every rounding, of floats, integers and both, by tensors and by numbers."""

    def forward(self, x: torch.Tensor, y: torch.Tensor, i: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.floor_divide(x, 0.1), i // 3, torch.floor_divide(x, y)]
        for mode in ("floor", "trunc", None):
            for dtype in (torch.float32, torch.float64, *([torch.float16] if mode else [])):
                found.append(torch.div(x.to(dtype), y.to(dtype), rounding_mode=mode))
            for dtype in INTEGERS:
                whole = (i + 7).to(dtype) if dtype == torch.uint8 else i.to(dtype)
                found += [
                    torch.div(whole, number, rounding_mode=mode) for number in (2, 0.1 if mode else 0.5)
                ]
                found.append(torch.div(whole, torch.full_like(whole, 3), rounding_mode=mode))
            found.append(torch.div(i, y[: len(i)], rounding_mode=mode))
        return found


class Reductions(torch.nn.Module):
    """By every reduction, with what was there before and without."""

    def forward(self, x: torch.Tensor, places: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        kinds = itertools.product(("sum", "mean", "prod", "amax", "amin"), (True, False))
        dtypes = (torch.float32, torch.float64, torch.int64)
        return [
            x.to(dtype).scatter_reduce(1, places, y.to(dtype), kind, include_self=own)
            for dtype, (kind, own) in itertools.product(dtypes, list(kinds))
        ]


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (Divisions(), (DIVIDENDS, DIVISORS, torch.arange(-4, 4))),
        (
            Reductions(),
            (
                torch.tensor([[5.0, -7.0, 2.0]]),
                torch.tensor([[0, 0, 2]]),
                torch.tensor([[2.0, -4.0, 9.0, 1.0]]),
            ),
        ),
    ],
    ids=["division", "scatter_reduce"],
)
def test_it_is_what_torch_computes(module: torch.nn.Module, inputs: tuple[Any, ...], tmp_path: Path) -> None:
    go.capture(module.eval(), inputs).save(tmp_path / "model.onnx")
    outputs = OnnxRuntimeRunner(tmp_path / "model.onnx")(*inputs)
    for i, (got, expected) in enumerate(zip(outputs, module(*inputs), strict=True)):
        assert got.dtype == expected.dtype, i
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True, msg=f"output {i}")
