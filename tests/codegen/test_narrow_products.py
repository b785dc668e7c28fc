"""Products of int8, bfloat16 and float16: exact in integers, by the instructions of each target."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.kernel_fuzz import run as run_case
from graphopt.codegen import Artifact, compile
from graphopt.codegen.relax import narrow
from graphopt.codegen.schedules.cpu.dots import Dots
from graphopt.codegen.targets import find_target
from graphopt.frontends.torch_module import capture_torch
from graphopt.fuzz.kernels import FAMILIES
from graphopt.fuzz.kernels.quantized import DyadicRequantize, FloatRequantize, IntegerConv2d, IntegerLinear
from graphopt.verification import verify

LEVELS = ("cpu", "x86-64-v2", "x86-64-v3", "x86-64-v4")


def random_bytes(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    limits = torch.iinfo(dtype)
    return torch.randint(limits.min, limits.max + 1, shape, dtype=dtype)


def run(module: nn.Module, x: torch.Tensor, target: str = "cpu") -> tuple[Artifact, torch.Tensor]:
    """The module compiled, and what the artifact gives."""
    artifact = compile(capture_torch(module.eval(), (x,)), target)
    if artifact.target.why_not_here():
        pytest.skip(f"this CPU cannot run {target}")
    return artifact, artifact(x)[0]


def kernels(artifact: Artifact) -> list[str]:
    return [kernel.name for kernel in artifact.kernels() if "transpose" not in kernel.name]


def linear(depth: int, columns: int, zero: int = 0) -> IntegerLinear:
    bias = torch.randint(-(1 << 20), 1 << 20, (columns,), dtype=torch.int32)
    return IntegerLinear(random_bytes(torch.int8, columns, depth), bias, zero)


CONVOLUTIONS = {
    "1x1": ((24, 16, 1, 1), (1, 1), (0, 0), 1),
    "3x3": ((24, 16, 3, 3), (1, 1), (1, 1), 1),
    "stem of 3 channels": ((20, 3, 5, 3), (2, 2), (2, 1), 1),
    "channels that no group divides": ((18, 7, 3, 3), (2, 1), (1, 0), 1),
    "depthwise": ((16, 1, 3, 3), (1, 2), (1, 1), 16),
}


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("dtype", "zero"), [(torch.uint8, 117), (torch.int8, -5)])
def test_integer_convolutions_are_exact(name: str, dtype: torch.dtype, zero: int, target: str) -> None:
    shape, stride, padding, groups = CONVOLUTIONS[name]
    bias = torch.randint(-1000, 1000, shape[:1], dtype=torch.int32)
    module = IntegerConv2d(random_bytes(torch.int8, *shape), bias, zero, stride, padding, groups=groups)
    x = random_bytes(dtype, 2, shape[1] * groups, 9, 7)
    artifact, y = run(module, x, target)
    assert torch.equal(y, module(x))
    assert kernels(artifact) == ["depthwise_conv2d" if groups > 1 else "narrow_conv2d"]


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_the_largest_sums_do_not_saturate(dtype: torch.dtype, target: str) -> None:
    """Pairs of 255 * -128 leave 16 bits, where vpmaddubsw would stop."""
    limits = torch.iinfo(dtype)
    for value, weight in ((limits.max, -128), (limits.max, 127), (limits.min, -128)):
        module = IntegerLinear(torch.full((16, 4608), weight, dtype=torch.int8), None, 0)
        x = torch.full((3, 4608), value, dtype=dtype)
        assert torch.equal(run(module, x, target)[1], module(x))


def test_sums_wrap_as_int32_does() -> None:
    module = IntegerLinear(torch.full((16, 70000), -128, dtype=torch.int8), None, -100)
    x = torch.full((2, 70000), 255, dtype=torch.uint8)
    exact = 355 * -128 * 70000
    assert exact < -(1 << 31)
    y = run(module, x)[1]
    assert (y == (exact + (1 << 31)) % (1 << 32) - (1 << 31)).all()


def test_dilated_convolutions_are_exact() -> None:
    """Against float64, which holds these sums exactly: torch dilates no integer convolution."""
    weight, x = random_bytes(torch.int8, 8, 12, 3, 3), random_bytes(torch.uint8, 1, 12, 11, 9)
    module = IntegerConv2d(weight, None, 9, (1, 1), (2, 3), (2, 3))
    reference = F.conv2d(x.double() - 9, weight.double(), None, 1, (2, 3), (2, 3))
    assert torch.equal(run(module, x)[1], reference.to(torch.int32))


@pytest.mark.parametrize("kind", ["dyadic", "dyadic relu", "float"])
def test_requantization_is_part_of_the_kernel(kind: str) -> None:
    factor = (torch.rand(24) + 0.5) / 900
    shape = (-1, 1, 1)
    after = {
        "dyadic": DyadicRequantize(factor, shape, torch.int8),
        "dyadic relu": DyadicRequantize(factor, shape, torch.uint8, low=3),
        "float": FloatRequantize(factor, shape, torch.uint8, zero=100),
    }[kind]
    conv = IntegerConv2d(random_bytes(torch.int8, 24, 16, 3, 3), None, 7, (1, 1), (1, 1))
    module, x = nn.Sequential(conv, after), random_bytes(torch.uint8, 1, 16, 9, 9)
    artifact, y = run(module, x)
    assert torch.equal(y, module(x))
    assert len(y.unique()) > 20
    assert len(kernels(artifact)) == 1


class Residual(nn.Module):
    """Two branches requantized each on its own, added and cut to size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = IntegerConv2d(random_bytes(torch.int8, 32, 32, 1, 1), None, 0)
        self.branch = DyadicRequantize(torch.rand(32) / 400 + 1e-4, (-1, 1, 1), torch.int8)
        self.next = IntegerConv2d(random_bytes(torch.int8, 16, 32, 1, 1), None, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.branch(self.conv(x)).to(torch.int32) + x.to(torch.int32)
        y: torch.Tensor = self.next(total.clamp(0, 127).to(torch.int8))
        return y


def test_a_residual_is_added_in_the_kernel() -> None:
    module, x = Residual(), random_bytes(torch.int8, 1, 32, 5, 6)
    artifact, y = run(module, x)
    assert torch.equal(y, module(x))
    assert len(kernels(artifact)) == 2


def test_int_mm_and_matmul_take_the_instruction() -> None:
    weight = random_bytes(torch.int8, 33, 24)

    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Buffer(weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch._int_mm(x, self.weight) + (x.to(torch.int32) - 3) @ self.weight.to(torch.int32)

    x = random_bytes(torch.int8, 19, 33)
    artifact, y = run(Products(), x)
    assert torch.equal(y, Products()(x))
    assert sum("narrow_matmul" in name for name in kernels(artifact)) == 2


@pytest.mark.parametrize("rows", [1, 5])
def test_weights_of_nine_bits_are_multiplied_as_words(rows: int) -> None:
    """uint8 weights less a zero point."""
    module = IntegerLinear(torch.randint(-255, 256, (20, 33), dtype=torch.int32), None, 128)
    x = random_bytes(torch.uint8, rows, 33)
    artifact, y = run(module, x)
    assert torch.equal(y, module(x))
    assert kernels(artifact) == ["narrow_matmul"]


@pytest.mark.parametrize(
    ("weight", "zero", "padding"),
    [
        pytest.param(torch.full((8, 4, 3, 3), 40000, dtype=torch.int32), 0, 0, id="weights of 17 bits"),
        pytest.param(torch.ones(8, 4, 3, 3, dtype=torch.int8), 1000, 0, id="a zero point of 10 bits"),
    ],
)
def test_what_the_instructions_cannot_hold_is_left_alone(
    weight: torch.Tensor, zero: int, padding: int
) -> None:
    module = IntegerConv2d(weight, None, zero, padding=(padding, padding))
    x = random_bytes(torch.uint8, 1, 4, 6, 6)
    artifact, y = run(module, x)
    assert torch.equal(y, module(x))
    assert not any("narrow" in name for name in kernels(artifact))


def test_a_border_that_is_no_byte_is_multiplied_as_words() -> None:
    """Zero is -20 there, which uint8 does not have."""
    module = IntegerConv2d(random_bytes(torch.int8, 8, 4, 3, 3), None, -20, padding=(1, 1))
    x = random_bytes(torch.uint8, 1, 4, 6, 6)
    artifact, y = run(module, x)
    assert torch.equal(y, module(x))
    assert kernels(artifact) == ["narrow_conv2d"]


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_rounded_once(dtype: torch.dtype, target: str) -> None:
    module = nn.Sequential(nn.Conv2d(5, 24, 3, 2, 1), nn.ReLU(), nn.Flatten(2), nn.Linear(12, 33)).to(dtype)
    x = torch.randn(2, 5, 5, 8).to(dtype)
    program = capture_torch(module.eval(), (x,))
    artifact = compile(program, target)
    if artifact.target.why_not_here():
        pytest.skip(f"this CPU cannot run {target}")
    verify(program, artifact, draws=1, runs=4).raise_if_failed()
    converts = getattr(Dots.of(artifact.target), str(dtype).removeprefix("torch.")) is not None
    assert sum("narrow" in name for name in kernels(artifact)) == (2 if converts else 0)


# -- instructions ----------------------------------------------------------------------------------

INSTRUCTIONS = {
    # target: of bytes, of bfloat16, of float16
    "x86-64-v2": ("pmaddwd", None, None),
    "x86-64-v3": ("vpmaddwd", None, "vcvtph2ps"),
    "x86-64-v4": ("vpmaddwd", None, "vcvtph2ps"),
    "cascadelake": ("vpdpbusd", None, "vcvtph2ps"),
    "alderlake": ("vpdpbusd", None, "vcvtph2ps"),
    "znver4": ("vpdpbusd", "vdpbf16ps", "vcvtph2ps"),
    "aarch64": ("smlal", None, "fcvtl"),
    "aarch64-neoverse-n1": ("sdot", None, "fcvtl"),
}
NEVER = {"vpmaddubsw", "pmaddubsw"}
ABOVE = {
    "x86-64-v2": {"vpmaddwd", "vpdpbusd", "vdpbf16ps", "vcvtph2ps"},
    "x86-64-v3": {"vpdpbusd", "vdpbf16ps"},
    "x86-64-v4": {"vpdpbusd", "vdpbf16ps"},
    "cascadelake": {"vdpbf16ps"},
    "alderlake": {"vdpbf16ps"},
    "aarch64": {"sdot", "udot", "usdot"},
}


def disassembly(module: nn.Module, x: torch.Tensor, target: str, folder: Path) -> str:
    tool = "aarch64-linux-gnu-objdump" if target.startswith("aarch64") else "objdump"
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    artifact = compile(capture_torch(module.eval(), (x,)), target)
    if artifact.target.object_format != "so":
        pytest.skip(f"no linker for {target} here")
    artifact.save(folder / "model.so")
    command = [tool, "--disassemble", "--no-show-raw-insn", str(folder / "model.so")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_products_use_the_instructions_of_the_target_and_none_above(target: str, tmp_path: Path) -> None:
    models: tuple[tuple[nn.Module, torch.Tensor], ...] = (
        (linear(64, 48, 5), random_bytes(torch.uint8, 24, 64)),
        (nn.Linear(64, 48).bfloat16(), torch.randn(24, 64).bfloat16()),
        (nn.Linear(64, 48).half(), torch.randn(24, 64).half()),
    )
    vectors = find_target(target).vector_bits
    for expected, (module, x) in zip(INSTRUCTIONS[target], models, strict=True):
        text = disassembly(module, x, target, tmp_path)
        found = set(re.findall(r"^ *[0-9a-f]+:\t(?:\{vex\} )?([a-z0-9]+)", text, re.MULTILINE))
        assert expected is None or expected in found
        assert not found & (ABOVE.get(target, set()) | NEVER)
        assert vectors >= 512 or "%zmm" not in text
        assert vectors >= 256 or "%ymm" not in text


# -- mistakes --------------------------------------------------------------------------------------


def _zero_point_off_by_one(factor: narrow.Factor) -> narrow.Factor:
    return replace(factor, zero=factor.zero + 1 if factor.zero else 0)


def _plain_border(factor: narrow.Factor) -> narrow.Factor:
    return replace(factor, border=0)


@pytest.mark.parametrize(
    ("name", "step", "mistake", "seed"),
    [
        ("integer-linear", "_offset", _zero_point_off_by_one, 1),
        ("integer-conv", "_image", _plain_border, 2),
    ],
)
def test_a_wrong_integer_product_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, step: str, mistake: Any, seed: int
) -> None:
    original = getattr(narrow, step)

    def wrong(*arguments: Any) -> Any:
        return original(*(mistake(a) if isinstance(a, narrow.Factor) else a for a in arguments))

    monkeypatch.setattr(narrow, step, wrong)
    family = next(f for f in FAMILIES if f.name == name)
    assert run_case(family, seed, "cpu")[0] == "wrong"
