"""Products and convolutions on packed weights, and images with their channels last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.codegen import Artifact, compile
from graphopt.codegen.schedules.cpu.tiling import PackedTile, Registers
from graphopt.frontends.torch_module import capture_torch
from graphopt.verification import verify


def compiled(
    module: nn.Module,
    *inputs: torch.Tensor,
    dynamic: Sequence[dict[int, str]] = (),
    target: str = "cpu",
) -> Artifact:
    """The module compiled, and verified against itself, at other sizes too."""
    program = capture_torch(module.eval(), inputs, dynamic_shapes=tuple(dynamic) or None)
    artifact = compile(program, target)
    if artifact.target.why_not_here():
        pytest.skip(f"this CPU cannot run {target}")
    verify(program, artifact, draws=3 if dynamic else 1, runs=4).raise_if_failed()
    return artifact


def rules(artifact: Artifact) -> Counter[str]:
    return Counter(kernel.rule for kernel in artifact.kernels())


def transposes(artifact: Artifact) -> int:
    return sum("transpose" in kernel.name for kernel in artifact.kernels())


CONVOLUTIONS = {
    "3x3": (nn.Conv2d(8, 32, 3, 1, 1), (1, 8, 14, 14)),
    "3x3 on an odd plane": (nn.Conv2d(5, 48, 3, 1, 1), (2, 5, 13, 17)),
    "strided": (nn.Conv2d(16, 24, 3, 2, 1), (1, 16, 15, 15)),
    "dilated": (nn.Conv2d(16, 16, 3, 1, 2, dilation=2), (1, 16, 9, 11)),
    "asymmetric": (nn.Conv2d(4, 20, (1, 5), (2, 1), (0, 2)), (1, 4, 6, 10)),
    "7x7 stem": (nn.Conv2d(3, 64, 7, 2, 3, bias=False), (1, 3, 33, 31)),
    "patches": (nn.Conv2d(3, 40, 4, 4), (1, 3, 32, 24)),
    "1x1": (nn.Conv2d(24, 56, 1), (3, 24, 7, 7)),
    "1x1 on one pixel": (nn.Conv2d(32, 8, 1), (2, 32, 1, 1)),
    "outputs that no vector divides": (nn.Conv2d(6, 30, 3), (1, 6, 8, 9)),
    "depthwise": (nn.Conv2d(32, 32, 3, 1, 1, groups=32), (1, 32, 14, 15)),
    "depthwise, 24 channels, strided": (nn.Conv2d(24, 24, 5, 2, 2, groups=24), (1, 24, 17, 14)),
    "transposed, a vector a pixel": (nn.ConvTranspose2d(12, 22, (2, 3), (2, 3)), (2, 12, 5, 7)),
    "transposed, windows apart": (nn.ConvTranspose2d(12, 6, 2, 2), (1, 12, 5, 7)),
    "transposed, overlapping": (nn.ConvTranspose2d(6, 10, 4, 2, 1), (2, 6, 5, 7)),
    "transposed, taps that no stride divides": (
        nn.ConvTranspose2d(6, 3, (5, 3), (3, 2), (2, 0), (1, 1)),
        (1, 6, 4, 5),
    ),
    "transposed, windows with gaps between": (nn.ConvTranspose2d(4, 8, 2, 3, 0, 2), (1, 4, 3, 5)),
    "transposed, one step": (nn.ConvTranspose2d(5, 9, 3, 1, 1, bias=False), (1, 5, 6, 7)),
    "groups of four": (nn.Conv2d(32, 32, 3, 1, 1, groups=8), (2, 32, 9, 7)),
    "groups of more outputs": (nn.Conv2d(6, 96, (3, 1), 2, groups=2), (1, 6, 9, 8)),
    "groups of two registers": (nn.Conv2d(10, 64, 1, groups=2, bias=False), (1, 10, 5, 13)),
    "one axis": (nn.Conv1d(6, 20, 5, 2, 2), (2, 6, 33)),
    "one axis, dilated groups": (nn.Conv1d(16, 16, 3, 1, 4, 4, groups=2), (1, 16, 21)),
    "one axis, depthwise": (nn.Conv1d(32, 32, 7, 1, 3, groups=32), (1, 32, 40)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    layer, shape = CONVOLUTIONS[name]
    assert rules(compiled(layer, torch.randn(shape))).keys() & {"packed-product", "winograd"}


@pytest.mark.parametrize(
    "layer",
    [nn.ConvTranspose2d(6, 8, 4, 2, 1, 1), nn.Conv2d(6, 16, 3, 1, 1, groups=2)],
    ids=["transposed", "groups"],
)
def test_convolutions_of_planes_that_are_not_known(layer: nn.Module) -> None:
    artifact = compiled(layer, torch.randn(2, 6, 9, 8), dynamic=[{0: "batch", 2: "height", 3: "width"}])
    assert "packed-product" in rules(artifact)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 3, padding=1, groups=4),
        nn.Conv2d(8, 2, 3),
        nn.ConvTranspose2d(4, 4, 3, 2, groups=2),
        nn.ConvTranspose2d(4, 4, 2, 2, dilation=2),
    ],
    ids=["groups of two outputs", "two outputs", "transposed groups", "dilated windows"],
)
def test_other_convolutions_take_the_plain_way(layer: nn.Module) -> None:
    channels = layer.in_channels
    assert "packed-product" not in rules(compiled(layer, torch.randn(1, channels, 9, 9)))


@pytest.mark.parametrize("outputs", [10, 32, 1000])
@pytest.mark.parametrize("rows", [(1,), (7,), (2, 13), (2, 3, 16)], ids=str)
def test_linear_layers(rows: tuple[int, ...], outputs: int) -> None:
    assert rules(compiled(nn.Linear(20, outputs), torch.randn(*rows, 20)))["packed-product"] == 1


class Products(nn.Module):
    """Every way to write a product with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(12, 20)), nn.Parameter(torch.randn(20, 12))
        self.c = nn.Parameter(torch.randn(20))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.addmm(self.c, x, self.a) @ self.b
        return torch.mm(F.linear(y, self.b), self.a.t())


def test_products_with_weights() -> None:
    artifact = compiled(Products(), torch.randn(9, 12), dynamic=[{0: "rows"}])
    assert rules(artifact)["packed-product"] >= 3
    assert rules(artifact)["contraction"] == 0


class Gated(nn.Module):
    """A squeeze-and-excitation block with a residual: the gate is smaller than what it gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.down, self.up = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.scale = nn.Parameter(torch.randn(16, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.stem(x))
        y = F.silu(self.depthwise(x)) * self.scale
        gate = F.hardsigmoid(self.up(F.relu(self.down(y.mean((2, 3), keepdim=True)))))
        return torch.where(y > 0, y, 0.5 * y) * gate + x


def test_elementwise_operators_join_the_products_and_keep_the_layout() -> None:
    artifact = compiled(Gated(), torch.randn(1, 3, 20, 24), dynamic=[{0: "n", 2: "h", 3: "w"}])
    assert transposes(artifact) <= 2, [k.name for k in artifact.kernels()]
    names = " ".join(kernel.name for kernel in artifact.kernels())
    assert "packed_conv2d_hardswish" in names


@pytest.mark.parametrize(("example", "rows"), [(7, 7), (21, 7), (2, 4)])
def test_tiles_of_open_sizes_are_chosen_for_the_example(example: int, rows: int) -> None:
    layer = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32))
    artifact = compiled(layer, torch.randn(1, 3, 9, example), dynamic=[{3: "width"}])
    assert f'"graphopt.packed_tile": [{rows}, 16, 1, -2]' in artifact.source()


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_smaller_registers(target: str) -> None:
    artifact = compiled(Gated(), torch.randn(1, 3, 20, 24), dynamic=[{0: "n", 2: "h", 3: "w"}], target=target)
    assert rules(artifact)["packed-product"] >= 4


class Planes(nn.Module):
    """Operators that know where the plane is."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(48, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.stem(x)
        pooled = F.max_pool2d(x, 3, 2, 1)
        up = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="nearest")
        smooth = F.interpolate(pooled, scale_factor=2.0, mode="bilinear")
        wide = F.pad(x, (1, 2, 0, 1))[:, :, 1:, 3:]
        y = self.head(torch.cat([x, up, smooth, wide, x.softmax(1), x[:, :8] + x.amax(1, keepdim=True)], 1))
        return y.mean((2, 3)), F.adaptive_avg_pool2d(y, 1).flatten(1), y.sum(1)


def test_operators_on_planes() -> None:
    compiled(Planes(), torch.randn(1, 3, 16, 12))


AVERAGES = {
    "window": {"kernel_size": 2},
    "bordered": {"kernel_size": 3, "stride": 2, "padding": 1},
    "without the border": {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
    "beyond the end": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "border, and beyond": {"kernel_size": (2, 3), "stride": 3, "padding": 1, "ceil_mode": True},
    "of another number": {"kernel_size": 2, "padding": 1, "divisor_override": 5},
    "too wide to unroll": {"kernel_size": 9, "stride": 1, "padding": 4},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_average_pooling_with_channels_last(name: str) -> None:
    layer = nn.Sequential(nn.Conv2d(3, 24, 1), nn.AvgPool2d(**AVERAGES[name]), nn.Conv2d(24, 4, 1))
    artifact = compiled(layer, torch.randn(2, 3, 14, 13))
    assert transposes(artifact) <= 2
    assert ("window_sums" in str(artifact.kernels())) is (name != "too wide to unroll")


class Mixer(nn.Module):
    """A block of PoolFormer: group norm of one group, pooling, a residual."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, 2, 1), nn.GroupNorm(groups, 24)
        self.scale = nn.Parameter(torch.randn(24, 1, 1))
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.norm(x)
        return x + self.scale * (F.avg_pool2d(y, 3, 1, 1, count_include_pad=False) - y)


def test_one_group_is_normalised_with_channels_last() -> None:
    artifact = compiled(Mixer(1), 3 + 50 * torch.rand(2, 3, 28, 26))
    assert transposes(artifact) <= 2
    assert "part_moments" in str(artifact.kernels())


@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_at_sizes_that_are_not_known(groups: int) -> None:
    compiled(Mixer(groups), torch.randn(1, 3, 20, 24), dynamic=[{0: "n", 2: "h", 3: "w"}])


class Unbatched(nn.Module):
    """Pooling of ``[C, H, W]``, where the last two axes have been exchanged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        return F.max_pool2d(x, 2) + F.avg_pool2d(x, 2)


def test_three_axes_are_an_image_without_a_batch() -> None:
    compiled(Unbatched(), torch.randn(4, 6, 10))


class Viewed(nn.Module):
    """An image becomes tokens between a convolution and what is done to each element of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 24, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.conv(x).flatten(2).transpose(1, 2))


def test_elementwise_work_joins_a_kernel_through_a_view() -> None:
    artifact = compiled(Viewed(), torch.randn(1, 8, 9, 7))
    assert "packed_conv2d_gelu" in " ".join(k.name for k in artifact.kernels())


class Tokens(nn.Module):
    """From an image to tokens and back: no transposition is left."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 24, 4, 4), nn.Linear(24, 24)
        self.conv, self.norm = nn.Conv2d(24, 24, 3, 1, 1), nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        tokens = self.norm(self.mix(x.flatten(2).transpose(1, 2)))
        image = self.conv(tokens.transpose(1, 2).reshape(x.shape))
        return self.mix(image.permute(0, 2, 3, 1))


def test_between_images_and_tokens_nothing_moves() -> None:
    artifact = compiled(Tokens(), torch.randn(2, 3, 16, 20))
    assert transposes(artifact) <= 1, [k.name for k in artifact.kernels()]


def test_a_weight_that_is_an_input_is_not_packed() -> None:
    class Given(nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return F.linear(F.conv2d(x, weight[:, :, None, None]).flatten(1), weight[:, :1].T)

    artifact = compiled(Given(), torch.randn(1, 6, 1, 1), torch.randn(8, 6))
    assert "packed-product" not in rules(artifact)


@pytest.mark.parametrize(
    "registers",
    [Registers(16, 24, 16), Registers(16, 24, 8), Registers(8, 12, 8), Registers(4, 24, 4)],
    ids=str,
)
@pytest.mark.parametrize("rows", [None, 1, 7, 14, 197])
@pytest.mark.parametrize("columns", [4, 24, 40, 1000])
def test_tiles_fit_into_the_registers(registers: Registers, rows: int | None, columns: int) -> None:
    for stride in (0, 768, 1024):
        tile = PackedTile.of(rows, columns, registers, stride)
        assert tile.columns % (registers.lanes // 2) == 0
        assert rows is None or tile.rows <= rows
        vectors = tile.columns // gcd(tile.columns, registers.lanes)
        assert tile.rows * vectors < registers.accumulators * 4 // 3


@pytest.mark.parametrize(("lanes", "accumulators"), [(16, 24), (8, 12), (4, 24)])
@pytest.mark.parametrize("columns", [8, 16, 32, 64])
def test_pixels_that_windows_share_have_registers_too(lanes: int, accumulators: int, columns: int) -> None:
    registers = Registers(lanes, accumulators, 4)
    tile = PackedTile.of(112, columns, registers, taps_share=True)
    vectors = tile.columns // gcd(tile.columns, registers.lanes)
    assert (tile.rows + 1) * vectors + tile.rows <= registers.accumulators * 4 // 3


def test_sums_are_not_in_the_memory_of_the_runtime(tmp_path: Path) -> None:
    # LLVM keeps in registers what is on the stack, and stores sums of the runtime's memory between stages.
    def asks_for_memory(module: nn.Module, x: torch.Tensor) -> bool:
        compiled(module, x).save(tmp_path / "a.so")
        return b"TVMBackendAllocWorkspace" in (tmp_path / "a.so").read_bytes()

    x = torch.randn(1, 16, 12, 12)
    assert not asks_for_memory(nn.Sequential(nn.Conv2d(16, 48, 1), nn.ReLU6()), x)
    assert not asks_for_memory(nn.Conv2d(16, 16, 3, padding=1, groups=16), x)
    assert asks_for_memory(nn.Conv2d(16, 16, 5, padding=2), x)  # the image with a border


def test_half_vectors_are_used_where_they_cost_half() -> None:
    assert PackedTile.of(160, 24, Registers(16, 24, 8)).columns == 24
    assert PackedTile.of(160, 24, Registers(16, 24, 16)).columns == 32


def test_few_rows_that_are_a_page_apart_share_a_tile() -> None:
    registers = Registers(16, 24, 8)
    assert PackedTile.of(128, 384, registers, 960).rows > 5
    assert PackedTile.of(128, 384, registers, 1024).rows <= 5


class UsedTwice(nn.Module):
    """The result of a convolution in two shapes: as an image of one row, and as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv1d(2, 8, 7, padding=2, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.part(x)
        return y + y.abs()


def test_a_computed_length_that_is_split_again() -> None:
    """TVM's analysis of reshapes fails on ``[length - 2, 8]``."""
    compiled(UsedTwice(), torch.randn(2, 2, 39), dynamic=[{2: "length"}])
