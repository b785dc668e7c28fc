"""Files that onnxruntime's own tools write: its graph optimiser, its quantiser, and both in turn."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.exporters.onnx import to_onnx
from graphopt.frontends.onnx import import_onnx
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify


class Vision(nn.Module):
    """Convolutions with a residual sum, a concatenation, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.stem(x), 0.1)
        x = F.relu(x + self.block(x))
        x = torch.cat([F.max_pool2d(x, 2), F.avg_pool2d(torch.sigmoid(self.depthwise(x)), 2)], dim=1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)).softmax(-1)


class Text(nn.Module):
    """A layer of BERT."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(40, width), nn.Embedding(16, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = (
            nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        )  # fmt: skip
        self.heads = heads

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.first(self.words(tokens) + self.places(places))
        q, k, v = (
            p(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        x = self.second(x + self.out((weights @ v).transpose(1, 2).flatten(2)))
        return x + self.down(F.gelu(self.up(x)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what the exporter and the quantiser print and warn about themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def export(
    module: nn.Module, example: torch.Tensor, axes: dict[int, str], path: Path, opset: int = 17
) -> Path:
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with quiet():
        torch.onnx.export(
            module.eval(), (example,), str(path), dynamo=False, opset_version=opset, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": axes, "y": {0: "batch"}},
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vision") / "vision.onnx"
    return export(Vision(), torch.randn(2, 3, 16, 16), {0: "batch", 2: "height", 3: "width"}, path)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("text") / "text.onnx"
    return export(Text(), torch.randint(0, 40, (2, 7)), {0: "batch", 1: "length"}, path)


def optimised(path: Path, to: Path) -> Path:
    """What onnxruntime's optimiser makes of a file, at the level that stays portable."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(to)
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return to


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def agrees(path: Path, *shapes: dict[str, int]) -> Program:
    """Imports the file once and compares it with onnxruntime at several sizes."""
    program = import_onnx(path).check()
    # onnxruntime's optimiser rounds elsewhere than a file with Q and DQ says: what it makes of one is
    # another file, and tested as such.
    runner = OnnxRuntimeRunner(path, optimise=False)
    verify(program, runner, shapes=shapes, draws=len(shapes), runs=4).raise_if_failed()
    return program


PICTURES = ({"batch": 2, "height": 16, "width": 16}, {"batch": 1, "height": 24, "width": 20})
SENTENCES = ({"batch": 2, "length": 7}, {"batch": 1, "length": 11})


def integer_products(program: Program) -> tuple[int, int]:
    """How many products and convolutions are in integers, and how many in floats."""
    names = ("matmul", "mm", "bmm", "linear", "conv1d", "conv2d", "conv3d")
    dtypes = [n.meta["val"].dtype for n in program.operator_nodes() if str(n.target).split(".")[1] in names]
    return dtypes.count(torch.int32), len(dtypes) - dtypes.count(torch.int32)


# -- the graph optimiser -----------------------------------------------------------------------------


def test_optimised_convolutions(vision: Path, tmp_path: Path) -> None:
    path = optimised(vision, tmp_path / "o.onnx")
    assert operators(path)["FusedConv"] >= 2
    agrees(path, *PICTURES)


def test_optimised_transformer(text: Path, tmp_path: Path) -> None:
    path = optimised(text, tmp_path / "o.onnx")
    found = operators(path)
    assert {"SkipLayerNormalization", "Gelu", "BiasGelu", "FusedMatMul", "Attention"} & set(found), found
    agrees(path, *SENTENCES)


# -- the quantiser -----------------------------------------------------------------------------------


class Calibration:
    """A few random inputs, as onnxruntime's ``CalibrationDataReader`` gives them."""

    def __init__(self, make: Any) -> None:
        generator = np.random.default_rng(0)
        self._left = [{"x": make(generator)} for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def static(path: Path, to: Path, format_: str, make: Any, **options: Any) -> Path:
    from onnxruntime.quantization import QuantFormat, quantize_static

    with quiet():
        quantize_static(
            str(path), str(to), Calibration(make), quant_format=getattr(QuantFormat, format_), **options
        )
    return to


def picture(generator: np.random.Generator) -> np.ndarray:
    return generator.normal(size=(2, 3, 16, 16)).astype(np.float32)


def sentence(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 40, (2, 7))


@pytest.mark.parametrize(
    ("format_", "channels", "fused"), [("QDQ", False, False), ("QDQ", True, True), ("QOperator", True, False)]
)
def test_static_quantisation_of_convolutions(
    vision: Path, tmp_path: Path, format_: str, channels: bool, fused: bool
) -> None:
    path = static(vision, tmp_path / "q.onnx", format_, picture, per_channel=channels)
    path = optimised(path, tmp_path / "o.onnx") if fused else path
    program = agrees(path, *PICTURES)
    # Where an activation follows, the optimiser leaves a convolution in floats.
    integer = {"QOperator": 4, "QDQ": 2 if fused else 0}[format_]
    assert operators(path)["QLinearConv"] == integer
    assert integer_products(program)[0] >= integer


@pytest.mark.parametrize(("format_", "fused"), [("QDQ", True), ("QOperator", False)])
def test_static_quantisation_of_a_transformer(text: Path, tmp_path: Path, format_: str, fused: bool) -> None:
    path = static(text, tmp_path / "q.onnx", format_, sentence)
    path = optimised(path, tmp_path / "o.onnx") if fused else path
    agrees(path, *SENTENCES)


@pytest.mark.parametrize("fused", [False, True])
def test_dynamic_quantisation(text: Path, tmp_path: Path, fused: bool) -> None:
    from onnxruntime.quantization import quantize_dynamic

    with quiet():
        quantize_dynamic(str(text), str(tmp_path / "q.onnx"))
    path = optimised(tmp_path / "q.onnx", tmp_path / "o.onnx") if fused else tmp_path / "q.onnx"
    name = "MatMulIntegerToFloat" if fused else "MatMulInteger"
    assert operators(path)[name] + operators(path)["DynamicQuantizeMatMul"] >= 6
    assert integer_products(agrees(path, *SENTENCES))[0] >= 6


@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, True)])
def test_weights_of_few_bits(text: Path, tmp_path: Path, bits: int, symmetric: bool) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(onnx.load(text), block_size=16, is_symmetric=symmetric, bits=bits)
        quantizer.process()
        quantizer.model.save_model_to_file(str(tmp_path / "q.onnx"))
    assert operators(tmp_path / "q.onnx")["MatMulNBits"] == 6
    agrees(tmp_path / "q.onnx", *SENTENCES)


def test_a_quantised_file_is_exported_with_its_integers(vision: Path, tmp_path: Path) -> None:
    """Convolutions of int32 become standard nodes that onnxruntime runs, and give the same numbers."""
    program = import_onnx(static(vision, tmp_path / "q.onnx", "QOperator", picture))
    to_onnx(program, tmp_path / "again.onnx")
    found = operators(tmp_path / "again.onnx")
    assert (found["Conv"], found["ConvInteger"]) == (0, 4)
    runner = OnnxRuntimeRunner(tmp_path / "again.onnx")
    verify(program, runner, shapes=PICTURES, draws=len(PICTURES), runs=4).raise_if_failed()
