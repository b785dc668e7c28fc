"""The float64 reference computes the same function, and the noise covers rounding and little more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.verification_noise.graphs import random_program
from benchmarks.verification_noise.reordered import Reordered
from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import draw_inputs, verify
from graphopt.verification.noise import measure_noise
from graphopt.verification.rule import compare


class Lambda(nn.Module):
    def __init__(self, function):  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, *xs: Tensor) -> Tensor:
        return self.function(*xs)


def capture(function, *inputs: Tensor) -> Program:  # type: ignore[no-untyped-def]
    return capture_torch(Lambda(function).eval(), inputs)


X = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.rms_norm(x * 1e-4, (16,)),
        lambda x: F.rms_norm((x * 1e-4).half(), (16,)),
        lambda x: x * 0.1 - 0.3,
        lambda x: (x.half() * 3).float().bfloat16(),
        lambda x: x + torch.arange(16, dtype=torch.float32) * 0.1,
        lambda x: F.softmax(x, -1, dtype=torch.float16),
        lambda x: torch.full((3, 16), 0.1) - x,
        lambda x: x.masked_fill(x > 0, torch.finfo(torch.float32).min).softmax(-1),
        lambda x: (torch.finfo(torch.float32).min * (x > 0) + x).softmax(-1),
        lambda x: torch.where(x > 0, x, 0.1),
        lambda x: x.sum(-1, dtype=torch.float32),
        lambda x: torch.arange(16) * 0.5 / 3 + x,
        lambda x: x.view(torch.int32).view(torch.float32) * 2,
        lambda x: (x * 1e30) * 1e30,
        lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
        lambda x: torch.fft.rfft(x).abs(),
    ],
    ids=(
        "rms_eps rms_eps_half python_float casts arange softmax_dtype full masked_min added_min where "
        "sum_dtype int_promotion bits overflow attention complex"
    ).split(),
)
def test_reference_is_the_same_function(function) -> None:  # type: ignore[no-untyped-def]
    """Eager agrees with the reference without its own error being allowed for."""
    program = capture(function, X)
    noise = measure_noise(program.graph_module, [X])
    for output in noise.outputs:
        assert output.eager.dtype == program.signature.outputs[0].dtype
        error = (output.eager.to(output.reference.dtype) - output.reference).abs().nan_to_num(0.0)
        same = output.eager.isfinite() == output.reference.isfinite()
        assert bool(same.all())
        assert bool((error <= 2 * output.noise + 1e-44).all()), float((error / output.noise).max())


def test_unpinned_epsilon_would_be_another_function() -> None:
    """The test above can fail: the naive float64 run is far outside the noise."""
    noise = measure_noise(capture(lambda x: F.rms_norm(x * 1e-4, (16,)), X).graph_module, [X]).outputs[0]
    naive = F.rms_norm(X.double() * 1e-4, (16,))
    assert float((naive - noise.reference).abs().max()) > 1000 * float(noise.noise.max())


def test_moves_have_no_noise() -> None:
    program = capture(lambda x: torch.cat([x.t().flip(0), x.relu().t()], 1).reshape(-1)[3:], X)
    assert float(measure_noise(program.graph_module, [X]).outputs[0].noise.max()) == 0


def test_integers_kept_in_floats_have_no_noise() -> None:
    """Swin numbers its windows in float32 and compares differences with zero; a flip would mask all."""

    class Windows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            number = torch.arange(4.0).repeat_interleave(2)
            apart = (number[:, None] - number[None, :]) != 0
            return torch.softmax(x + torch.zeros(8, 8).masked_fill(apart, -100.0), -1)

    program = capture_torch(Windows().eval(), (torch.randn(8, 8),))
    noise = measure_noise(program.graph_module, (torch.randn(8, 8),)).outputs[0]
    assert not noise.unstable.any()
    assert float(noise.noise.max()) < 2**-18


def test_fractions_in_the_same_place_do_have_noise() -> None:
    class Thirds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - torch.arange(4.0) / 3

    program = capture_torch(Thirds().eval(), (torch.randn(4),))
    noise = measure_noise(program.graph_module, (torch.randn(4),)).outputs[0]
    assert bool((noise.noise > 0).all())


def test_noise_grows_with_conditioning() -> None:
    def noise(offset: float) -> float:
        program = capture(lambda x: (x + offset) - offset, X)
        return float(measure_noise(program.graph_module, [X]).outputs[0].noise.max())

    assert noise(1e4) > 100 * noise(1.0)


def test_same_seed_same_noise() -> None:
    program = random_program(5)
    inputs = draw_inputs(program, seed=2).tensors
    a, b, c = (measure_noise(program.graph_module, inputs, seed=s).outputs[0].noise for s in (7, 7, 8))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 0 + 0.5 + x * 1e-9).round(),
        lambda x: (x * 0 + x * 1e-9 + 1.0).argmax(-1),
        lambda x: torch.where(x * 1e-9 + 1.0 > 1.0, 1.0, -1.0),
    ],
    ids=["round", "argmax", "compare"],
)
def test_flipped_decisions_are_unstable(function) -> None:  # type: ignore[no-untyped-def]
    output = measure_noise(capture(function, X).graph_module, [X]).outputs[0]
    assert output.unstable_fraction > 0.5


def test_decisions_far_from_the_boundary_are_stable() -> None:
    output = measure_noise(capture(lambda x: (x.round() * 3 + 0.2).round().argmax(-1), X).graph_module, [X])
    assert output.outputs[0].unstable_fraction == 0


def test_what_is_only_noise_is_compared_with_its_noise() -> None:
    program = capture(lambda x: (x * 0.3 + 1.0) - (x * 0.3 + 1.0) * 1.0, X)
    assert verify(program, lambda x: torch.full_like(x, 1e-8), draws=1).ok
    assert not verify(program, lambda x: torch.full_like(x, 1e-2), draws=1).ok


def test_random_graph_is_refused() -> None:
    program = capture(lambda x: x + torch.rand(16), X)
    with pytest.raises(InputError, match="random"):
        measure_noise(program.graph_module, [X])


def test_more_runs_more_noise_never_less() -> None:
    program = random_program(11)
    inputs = draw_inputs(program).tensors
    few, many = (measure_noise(program.graph_module, inputs, runs=k).outputs[0].noise for k in (2, 12))
    assert bool((many >= few).all())


def test_no_false_alarm_and_little_slack_on_random_graphs() -> None:
    """30 graphs on a second implementation: none fails, and the allowance is not vacuous."""
    ratios = []
    for seed in range(30):
        program = random_program(seed, discrete=seed % 3 == 0)
        inputs = draw_inputs(program, seed=seed).tensors
        noise = measure_noise(program.graph_module, inputs, seed=seed)
        with torch.no_grad():
            got = Reordered(program.graph_module).run(*inputs)
        for y, output in zip(got, noise.outputs, strict=True):
            result = compare(y, output)
            assert result.ok, (seed, result)
            ratios.append(result.ratio)
    assert 0.005 < float(np.median(ratios)) < 0.2


def test_dialect_operators_are_perturbed_inside() -> None:
    """A custom op is opaque to torch's dispatch modes: its reference runs instead, rounding by rounding."""
    from graphopt.dialect import registry

    registry.load()
    program = capture(lambda x: torch.ops.graphopt.silu_mul(x, x + 1.0), X)
    plain = capture(lambda x: (lambda up: x * torch.sigmoid(x) * up)(x + 1.0), X)
    (fused,), (expanded,) = (measure_noise(p.graph_module, [X]).outputs for p in (program, plain))
    assert torch.allclose(fused.reference, expanded.reference, rtol=1e-14)
    assert torch.equal(fused.noise, expanded.noise)
    assert verify(program, plain).ok
    assert not verify(program, lambda x: F.gelu(x) * (x + 1.0)).ok


def test_a_float64_parameter_may_be_an_output() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.scale, x * 2

    x = torch.randn(3)
    program = capture_torch(Constant().eval(), (x,))
    assert verify(program, program, inputs=[x]).ok
