"""Transpositions in tiles: every element in its place, for sizes that no tile divides."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.codegen.schedules.cpu import injective, transposed


class Permuted(nn.Module):
    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = list(axes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.axes).contiguous()


def tiled(x: torch.Tensor, axes: Sequence[int], monkeypatch: pytest.MonkeyPatch, dynamic: Any = None) -> bool:
    """Compiles and compares; whether tiles were made."""
    original, outcomes = transposed.schedule_transposed, []

    def watched(*arguments: Any) -> bool:
        outcomes.append(original(*arguments))
        return outcomes[-1]

    monkeypatch.setattr(injective, "schedule_transposed", watched)
    module = Permuted(axes).eval()
    artifact = graphopt.compile(graphopt.capture(module, (x,), dynamic_shapes=dynamic))
    for given in [x] if dynamic is None else [x, x[:, :, :9].contiguous(), x[:, :, :1].contiguous()]:
        assert torch.equal(artifact(given)[0], module(given))
    return any(outcomes)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 37, 41), (0, 2, 1)),
        ((4, 4), (1, 0)),
        ((1, 64, 13, 17), (0, 2, 3, 1)),
        ((3, 7, 5, 48), (0, 3, 1, 2)),
        ((128, 512), (1, 0)),
        ((5, 6, 7, 8), (3, 2, 1, 0)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_axes_that_change_places(
    shape: tuple[int, ...], axes: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    assert tiled(x, axes, monkeypatch)


def test_sizes_that_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiled(torch.randn(2, 19, 23), (0, 2, 1), monkeypatch, ({1: "rows", 2: "columns"},))
    assert tiled(torch.randn(1, 5, 23), (0, 2, 1), monkeypatch, ({2: "columns"},))


@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 30, 3, 16), (0, 2, 1, 3)), ((40, 3), (1, 0)), ((2, 40), (1, 0))]
)
def test_rows_that_stay_whole_and_short_axes_are_copied(
    shape: tuple[int, ...], axes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not tiled(torch.randn(shape), axes, monkeypatch)
