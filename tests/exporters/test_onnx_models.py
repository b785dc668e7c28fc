"""Whole models to ONNX: small networks of several families, static and dynamic, and ONNX and back."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.exporters.onnx import to_onnx
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.passes.cleanup import Cleanup
from graphopt.passmanager.manager import PassManager
from graphopt.verification import OnnxRuntimeRunner, verify


class Residual(nn.Module):
    """A convolutional network: batch norm, squeeze-and-excitation, a resized skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1))
        self.up = nn.ConvTranspose2d(8, 1, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y = y * F.hardsigmoid(self.gate(y))
        coarse = F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.up(y + coarse))


class Decoder(nn.Module):
    """A transformer layer with grouped-query attention, rotary embedding and a causal mask."""

    def __init__(self, width: int = 32, heads: int = 4, groups: int = 2) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.embed = nn.Embedding(50, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, groups * self.size, bias=False)
        self.value = nn.Linear(width, groups * self.size, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.first, self.second = nn.RMSNorm(width, 1e-6), nn.RMSNorm(width, 1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.SiLU(), nn.Linear(64, width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        batch, length, width = x.shape
        angle = torch.arange(length)[:, None] / 100.0 ** (torch.arange(0, self.size, 2) / self.size)
        h = self.first(x)
        q, k, v = (
            f(h).view(batch, length, -1, self.size).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(turn(q, angle), turn(k, angle), v, is_causal=True, enable_gqa=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, length, width))
        return F.linear(x + self.mlp(self.second(x)), self.embed.weight)


def turn(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class Encoder(nn.Module):
    """BERT's layer: a padding mask, exact GELU, layer norms after the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, mask[:, None, None, :] > 0)
        x = self.first(x + self.out(y.transpose(1, 2).flatten(2)))
        return self.second(x + self.down(F.gelu(self.up(x))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(6, 5, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cells(x)[0].log_softmax(-1)


def residual(dynamic: bool) -> Program:
    shapes = ({0: "batch", 2: 2 * torch.export.Dim("h", min=2), 3: 2 * torch.export.Dim("w", min=2)},)
    args = (torch.randn(2, 3, 16, 24),)
    return capture_torch(Residual().eval(), args, dynamic_shapes=shapes if dynamic else None)


def decoder(dynamic: bool) -> Program:
    args = (torch.randint(0, 50, (2, 6)),)
    shapes = ({0: "batch", 1: "sequence"},) if dynamic else None
    return capture_torch(Decoder().eval(), args, dynamic_shapes=shapes)


def encoder(dynamic: bool) -> Program:
    args = (torch.randn(2, 5, 16), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]))
    shapes = ({0: "batch", 1: "sequence"}, {0: "batch", 1: "sequence"}) if dynamic else None
    return capture_torch(Encoder().eval(), args, dynamic_shapes=shapes)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("build", [residual, decoder, encoder])
def test_networks_agree(build: Callable[[bool], Program], dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = build(dynamic)
    to_onnx(program, tmp_path / "model.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "model.onnx"), draws=2, runs=4).raise_if_failed()


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch.export about nn.LSTM
def test_recurrent_networks_agree(tmp_path: Path) -> None:
    program = capture_torch(Recurrent().eval(), (torch.randn(2, 4, 6),))
    to_onnx(program, tmp_path / "model.onnx")
    assert "LSTM" in [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    verify(program, OnnxRuntimeRunner(tmp_path / "model.onnx"), draws=2, runs=4).raise_if_failed()


class Pyramid(nn.Module):
    """Resizes to twice a size that is computed from another tensor's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = F.avg_pool2d(x, 2)
        return x + F.interpolate(half, size=(half.shape[2] * 2, half.shape[3] * 2), mode="bilinear")


def test_sizes_that_are_multiples_become_factors(tmp_path: Path) -> None:
    h, w = (2 * torch.export.Dim(name, min=2, max=99) for name in ("h", "w"))
    program = capture_torch(Pyramid().eval(), (torch.randn(1, 2, 8, 6),), dynamic_shapes=({2: h, 3: w},))
    to_onnx(program, tmp_path / "model.onnx")
    types = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert types == ["AveragePool", "Resize", "Add"]
    verify(program, OnnxRuntimeRunner(tmp_path / "model.onnx"), draws=2, runs=4).raise_if_failed()


def test_transformers_stay_small(tmp_path: Path) -> None:
    """One node for each norm and attention, as torch has them."""
    to_onnx(decoder(True), tmp_path / "model.onnx")
    types = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert types.count("Attention") == 1 and types.count("RMSNormalization") == 2
    assert types.count("MatMul") + types.count("Gemm") == 7


@pytest.fixture(scope="module", params=["det", "rec", "cls"])
def shipped(request: pytest.FixtureRequest) -> Path:
    """A PP-OCRv4 network as rapidocr-onnxruntime ships it."""
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    assert package is not None and package.submodule_search_locations
    [path] = Path(package.submodule_search_locations[0], "models").glob(f"*_{request.param}_*.onnx")
    return path


def test_onnx_to_program_to_onnx(shipped: Path, tmp_path: Path) -> None:
    """The file that comes out computes what the file that went in did, with the same names."""
    program = import_onnx(shipped)
    to_onnx(program, tmp_path / "again.onnx")
    before, after = OnnxRuntimeRunner(shipped), OnnxRuntimeRunner(tmp_path / "again.onnx")
    assert (after.input_names, after.output_names) == (before.input_names, before.output_names)
    verify(program, before, draws=1, runs=2).raise_if_failed()
    verify(program, after, draws=1, runs=2).raise_if_failed()


def test_cleanup_between_shrinks_the_file(shipped: Path, tmp_path: Path) -> None:
    """Cleaned up on the way, the file has at most 3/5 of the operators that came in (cls: 3/4)."""
    program = import_onnx(shipped)
    cleaned = PassManager([Cleanup()], verify="off").run(program).program
    to_onnx(cleaned, tmp_path / "clean.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "clean.onnx"), draws=1, runs=2).raise_if_failed()
    before, after = operators(shipped), operators(tmp_path / "clean.onnx")
    assert after <= (before * 3 // 4 if "_cls_" in shipped.name else before * 3 // 5)


def operators(path: Path) -> int:
    """Nodes of a file, without constants: files hold those as nodes or as initialisers."""
    return sum(node.op_type != "Constant" for node in onnx.load(path).graph.node)
