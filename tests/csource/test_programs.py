"""Programs compiled to C compute what they should: every kind of kernel, type and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.c_sanitizer import kernels, program_of
from graphopt.codegen import compile
from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify
from tests.csource.conftest import needs_compiler

pytestmark = needs_compiler
_AUTO = torch.export.Dim.AUTO


class _Module(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor | None = None) -> Any:
        return self.function(a) if b is None else self.function(a, b)


def _capture(function: Callable[..., Any], *inputs: Tensor, dynamic: Any = None) -> Program:
    return capture_torch(_Module(function).eval(), inputs, dynamic_shapes=dynamic)


def test_a_small_net_of_any_batch(program: Program, artifact: Any) -> None:
    batches = [(torch.randn(n, 3, 12, 12),) for n in (1, 5)]
    verify(program, artifact, inputs=batches).raise_if_failed()


@pytest.mark.parametrize("name", ["linear", "convolution-hard-swish", "softmax", "gather", "attention"])
def test_a_kernel(name: str) -> None:
    program = program_of(kernels(13)[name])
    verify(program, compile(program, "c"), draws=1).raise_if_failed()


@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool],
    ids=lambda d: str(d).removeprefix("torch."),
)
def test_integers_are_exact(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (7, 23), generator=generator).to(dtype) for _ in range(2))

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        if dtype == torch.bool:
            return x & y, x ^ y, ~x, torch.where(x, y, x), x.any(1)
        return x + y * 3, x - y, torch.maximum(x, y), x // 7, x % 5, (x < y), x.sum(1), x & y

    program = _capture(function, a, b)
    for found, expected in zip(compile(program, "c")(a, b), function(a, b), strict=True):
        assert found.dtype == expected.dtype and torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floats(dtype: torch.dtype) -> None:
    program = _capture(lambda x: torch.tanh(x) * 2 + x.sum(-1, keepdim=True), torch.randn(5, 19).to(dtype))
    verify(program, compile(program, "c"), draws=1).raise_if_failed()


def test_numbers_that_are_none() -> None:
    values = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 0.5, 1.5, 2.5, -2.5])

    def function(x: Tensor) -> tuple[Tensor, ...]:
        return x.floor(), x.round(), x.relu(), x.isnan(), torch.clamp(x, -1, 1), x.abs(), x.exp()

    program = _capture(function, values)
    for found, expected in zip(compile(program, "c")(values)[:6], function(values)[:6], strict=True):
        assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
        assert torch.equal(torch.signbit(found), torch.signbit(expected))
    verify(program, compile(program, "c"), inputs=[(values,)]).raise_if_failed()


def test_sizes_are_arguments() -> None:
    program = _capture(
        lambda x, w: torch.relu(nn.functional.conv2d(x, w, padding=1, stride=2)),
        torch.randn(1, 3, 20, 22),
        torch.randn(4, 3, 3, 3),
        dynamic=({2: _AUTO, 3: _AUTO}, {}),
    )
    artifact = compile(program, "c")
    assert len(artifact.metadata["sizes"]) == 2
    batches = [(torch.randn(1, 3, h, w), torch.randn(4, 3, 3, 3)) for h, w in ((20, 22), (5, 4), (9, 33))]
    verify(program, artifact, inputs=batches).raise_if_failed()


def test_what_is_returned_as_it_is(program: Program, artifact: Any) -> None:
    image = torch.randn(3, 3, 12, 12)
    results = artifact(image)
    assert torch.equal(results[2], image) and torch.equal(results[3], image.flatten(1))
    assert torch.equal(results[4], torch.arange(6.0))
    assert results[2].data_ptr() != image.data_ptr()


def test_the_same_result_twice() -> None:
    program = _capture(lambda x: (x + 1, x + 1, (x + 1).flatten()), torch.randn(3, 4))
    x = torch.randn(3, 4)
    first, second, flat = compile(program, "c")(x)
    assert torch.equal(first, second) and torch.equal(flat, first.flatten())


def test_branches_that_data_decides_are_refused() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,))

    program = _capture(function, torch.randn(3))
    with pytest.raises(InputError, match="cond") as refused:
        compile(program, "c")
    assert refused.value.code == "GO-3005" and refused.value.node and "cpu" in (refused.value.hint or "")


def test_types_that_c_lacks_are_refused() -> None:
    from graphopt.codegen.csource.values import parse_dtype

    for name in ("float8_e4m3fn", "int4", "bool8", "handle", "float8"):
        with pytest.raises(InputError) as refused:
            parse_dtype(name)
        assert refused.value.code == "GO-3005"
