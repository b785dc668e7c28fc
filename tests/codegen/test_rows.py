"""Kernels that reduce rows: lengths that fill vector registers, that do not, and that are not known."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt
from graphopt.codegen import find_target
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.verification import verify

LANES = Registers.of(find_target("cpu")).lanes
LENGTHS = [1, 2, LANES - 1, LANES, 2 * LANES - 1, 2 * LANES, 2 * LANES + 1, 49, 197, 5 * LANES]

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x: (
        (x - x.mean(-1, keepdim=True)) * (x.var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
    ),
    "attention": lambda x: F.scaled_dot_product_attention(x, x.flip(0), x),
}


class _Module(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_a_known_length(length: int) -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            shape = (length,)
            return x.softmax(-1), F.layer_norm(x, shape), F.rms_norm(x, shape, eps=1e-6)

    program = graphopt.capture(Both().eval(), (torch.randn(3, 5, length),))
    artifact = graphopt.compile(program)
    verify(program, artifact).raise_if_failed()
    rules = {k.rule for k in artifact.kernels()}
    assert rules <= {"row-reduction", "injective"} if length >= 2 * LANES else "unscheduled" not in rules


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_of_any_length(name: str) -> None:
    module = _Module(FUNCTIONS[name]).eval()
    axes = {1: "length"} if name == "attention" else {2: "length"}
    shape = [2, 40, 8] if name == "attention" else [2, 3, 40]
    program = graphopt.capture(module, (torch.randn(shape),), dynamic_shapes=(axes,))
    artifact = graphopt.compile(program)
    for length in LENGTHS[1:]:
        shape[next(iter(axes))] = length
        verify(program, artifact, inputs=[(torch.randn(shape),)]).raise_if_failed()


@pytest.mark.parametrize("plane", [(1, 1), (3, 5), (7, 7), (8, 8)])
@pytest.mark.parametrize("groups", [1, 3])
def test_rows_over_several_axes(plane: tuple[int, int], groups: int) -> None:
    class Norms(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return F.group_norm(x, groups), F.layer_norm(x, x.shape[1:]), x.var((2, 3), correction=0)

    program = graphopt.capture(Norms().eval(), (torch.randn(2, 6, *plane),))
    verify(program, graphopt.compile(program)).raise_if_failed()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    program = graphopt.capture(_Module(FUNCTIONS["softmax"]).eval(), (torch.randn(4, 37).to(dtype),))
    verify(program, graphopt.compile(program)).raise_if_failed()


def test_rows_with_nan_infinity_and_no_finite_element() -> None:
    length = 2 * LANES + 3
    x = torch.randn(5, length)
    x[0, -1] = math.nan
    x[1, 0] = -math.inf
    x[2, -1] = math.inf
    x[3] = -math.inf
    program = graphopt.capture(_Module(FUNCTIONS["softmax"]).eval(), (x,))
    got, want = graphopt.compile(program)(x)[0], program(x)[0]
    assert torch.equal(got.isnan(), want.isnan())
    verify(program, graphopt.compile(program), inputs=[(x[[1, 4]].repeat(3, 1)[:5],)]).raise_if_failed()


@pytest.mark.parametrize("length", [197, 6625])
def test_a_length_that_no_vector_divides_is_vectors_and_a_remainder(length: int) -> None:
    """And no condition on every element, which would make each of them a loop's whole work."""
    module = _Module(lambda x: F.layer_norm(x, (length,))).eval()
    artifact = graphopt.compile(graphopt.capture(module, (torch.randn(8, length),)))
    assert "T.likely(" in artifact.source()


@pytest.mark.parametrize("function", [F.gelu, F.hardswish, F.silu])
def test_activations_far_out(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    far = torch.tensor([0.0, -0.0, 1e-30, 4.9, 5.1, 15.9, 16.1, 40.0, 1e4, torch.inf])
    values = torch.cat([far, -far[:-1], torch.tensor([torch.nan])])
    program = graphopt.capture(_Module(function).eval(), (values,))
    verify(program, graphopt.compile(program), inputs=[(values,)]).raise_if_failed()


@pytest.mark.parametrize("function", [torch.max, torch.min])
def test_the_first_nan_of_a_row_is_its_extreme(
    function: Callable[..., tuple[torch.Tensor, torch.Tensor]],
) -> None:
    x = torch.randn(3, 5 * LANES + 3)
    x[0, 3] = x[0, -1] = x[1, -2] = torch.nan
    x[2, 40] = x[2, 9] = function(x[2])  # and the first of equals
    program = graphopt.capture(_Module(lambda x: tuple(function(x, -1))).eval(), (x,))
    got = graphopt.compile(program)(x)
    for ours, theirs in zip(got, function(x, -1), strict=True):
        assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
