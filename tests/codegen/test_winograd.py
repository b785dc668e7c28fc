"""Convolutions by Winograd's method: matrices, where they pay, kernels on every CPU, and the ways out."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt
from graphopt.codegen import compile, find_target
from graphopt.codegen.relax import winograd
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.schedules.cpu.winograd_plan import Convolution, plan_winograd
from graphopt.codegen.toom_cook import POINTS, TAPS, transforms
from graphopt.frontends.torch_module import capture_torch
from graphopt.verification import verify

AVX2, AVX512 = Registers(8, 12, 8), Registers(16, 24, 16)
HALVED, NEON = Registers(16, 24, 8), Registers(4, 24, 4)


class Block(nn.Module):
    """A convolution with what may join its kernel."""

    def __init__(self, channels: int, outputs: int, padding: int = 1, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 3, stride, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return F.hardswish(y + x) if y.shape == x.shape else F.hardswish(y)


def program(block: nn.Module, *shape: int, batch: bool = False) -> graphopt.Program:
    torch.manual_seed(0)
    axes = ({0: "batch"},) if batch else None
    return capture_torch(block.eval(), (torch.randn(*shape),), dynamic_shapes=axes)


# -- matrices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", POINTS)
def test_the_matrices_are_those_of_a_correlation(outputs: int) -> None:
    output, weight, data = transforms(outputs)
    size = outputs + TAPS - 1
    for i in range(outputs):
        for tap in range(TAPS):
            for pixel in range(size):
                # The coefficient of g[tap] d[pixel] in y[i].
                found = sum(output[i][j] * weight[j][tap] * data[j][pixel] for j in range(size))
                assert found == (1 if pixel == i + tap else 0)


@pytest.mark.parametrize("outputs", POINTS)
def test_transforms_of_images_and_results_are_exact_in_float32(outputs: int) -> None:
    matrices = transforms(outputs)
    values = [v for matrix in (matrices.output, matrices.input) for row in matrix for v in row]
    assert all(Fraction(torch.tensor(float(v)).item()) == v for v in values)


# -- where it pays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("registers", [AVX2, AVX512, HALVED, NEON])
def test_it_pays_for_deep_convolutions(registers: Registers) -> None:
    plan = plan_winograd(Convolution(64, 64, 56, 56), registers, cores=2)
    assert plan is not None
    assert plan.outputs == 4
    assert plan.band * 14 % plan.tile.rows == 0
    assert plan.bands * plan.band >= 14


@pytest.mark.parametrize(
    "sizes",
    [
        (64, 64, 1, 56),  # three quarters of each tile are outside
        (3, 64, 56, 56),  # too few channels for a vector
        (8, 8, 64, 64),  # the transforms outweigh what the products save
    ],
)
def test_it_does_not_pay(sizes: tuple[int, int, int, int]) -> None:
    assert plan_winograd(Convolution(*sizes), HALVED, cores=2) is None


def test_few_channels_take_small_tiles() -> None:
    """Whose rounding errors are smaller: few channels do not average them."""
    for channels, outputs in ((16, 2), (64, 4)):
        plan = plan_winograd(Convolution(channels, 64, 56, 56), HALVED, cores=2)
        assert plan is not None
        assert plan.outputs == outputs


def test_large_weights_take_small_tiles() -> None:
    """Four times as many weights for few pixels are a stream from memory that cores share."""
    plan = plan_winograd(Convolution(512, 512, 7, 7), HALVED, cores=2)
    assert plan is not None
    assert plan.outputs == 2


# -- kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cpu", "x86-64-v3", "c"])
@pytest.mark.parametrize(
    ("shape", "outputs", "padding"),
    [
        ((1, 32, 20, 20), 32, 1),
        ((2, 48, 17, 13), 40, 0),  # tiles over the end on both axes, columns over the end
        ((1, 96, 40, 40), 24, 2),  # register tiles over two rows of tiles
    ],
)
def test_kernels(target: str, shape: tuple[int, ...], outputs: int, padding: int) -> None:
    if find_target(target).why_not_here() is not None:
        pytest.skip("runs on other machines")
    original = program(Block(shape[1], outputs, padding), *shape)
    artifact = compile(original, target)
    assert len(artifact.winograd()) == 1
    assert verify(original, artifact).ok


@pytest.mark.parametrize("outputs", POINTS)
@pytest.mark.parametrize("bands", ["one", "some"])
def test_every_form(outputs: int, bands: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sizes of tiles, with an image as one band and as several."""

    def chosen(convolution: Convolution, registers: Registers, cores: int) -> object:
        from graphopt.codegen.schedules.cpu import winograd_plan

        plans = winograd_plan._plans(outputs, convolution, registers, cores)
        return next(p for p in plans if (p.bands == 1) == (bands == "one"))

    monkeypatch.setattr(winograd, "plan_winograd", chosen)
    original = program(Block(16, 16), 1, 16, 11, 14)
    artifact = compile(original, "cpu", cache=False)
    assert len(artifact.winograd()) == 1
    assert verify(original, artifact).ok


def test_a_symbolic_batch() -> None:
    original = program(Block(32, 32), 3, 32, 14, 14, batch=True)
    artifact = compile(original, "cpu")
    assert len(artifact.winograd()) == 1
    assert verify(original, artifact).ok


def test_code_for_arm() -> None:
    artifact = compile(program(Block(32, 32), 1, 32, 20, 20), "aarch64")
    assert len(artifact.winograd()) == 1


def test_wrong_weights_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    panels = winograd._panels

    def transposed(weight: torch.Tensor, *rest: object) -> torch.Tensor:
        return panels(weight.mT, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(winograd, "_panels", transposed)
    original = program(Block(32, 32), 1, 32, 20, 20)
    assert not verify(original, compile(original, "cpu", cache=False)).ok


# -- the ways out ----------------------------------------------------------------------------------


def test_an_option_switches_it_off() -> None:
    original = program(Block(32, 32), 1, 32, 20, 20)
    assert compile(original, "cpu").winograd()
    assert compile(original, "cpu", fast_algorithms=False).winograd() == []  # nor from the cache
    assert compile(original, "c", fast_algorithms=False).winograd() == []


@pytest.mark.parametrize(
    "block",
    [
        Block(32, 32, stride=2),
        nn.Conv2d(32, 32, 3, dilation=2),
        nn.Conv2d(32, 32, (3, 1)),
        nn.Conv2d(32, 32, 5),
        nn.Conv2d(32, 32, 3, groups=2),
        Block(32, 32).half(),
    ],
    ids=["stride", "dilation", "shape", "taps", "groups", "half"],
)
def test_other_convolutions_are_direct(block: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 32, 20, 20, dtype=next(block.parameters()).dtype)
    assert compile(capture_torch(block.eval(), (x,)), "cpu").winograd() == []


def test_symbolic_planes_are_direct() -> None:
    x = torch.randn(1, 32, 20, 20)
    original = capture_torch(Block(32, 32).eval(), (x,), dynamic_shapes=({3: "width"},))
    assert compile(original, "cpu").winograd() == []


def test_what_is_not_finite_reaches_the_tiles_that_read_it_and_no_others() -> None:
    original = program(Block(32, 32), 1, 32, 20, 20)
    artifact = compile(original, "cpu")
    x = torch.randn(1, 32, 20, 20)
    (plain,) = artifact(x)
    x[0, 5, 0, 0] = torch.inf
    (spoilt,) = artifact(x)
    assert not spoilt[0, :, 0, 0].isfinite().any()
    assert (spoilt[:, :, 4:] == plain[:, :, 4:]).all()
    assert (spoilt[:, :, :, 4:] == plain[:, :, :, 4:]).all()
