"""Shape arithmetic as torch's two exporters write it: one import, any sizes.

Each chain reads sizes (Shape, Gather), computes with them and gives the result to an operator that takes a
shape.  None of the sizes of the example may be left in the program.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.frontends.onnx import import_onnx
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify


def _reshape(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(x.shape[0], 2, x.shape[1] // 2, -1)


def _expand(x: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(0, 1, 4).reshape(1, 4, 1, 1)
    return weights.expand(x.shape[0], 4, x.shape[2], x.shape[3]) * x


def _resize_to_twice(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, size=(x.shape[2] * 2, x.shape[3] * 2), mode="bilinear", align_corners=False)


def _slice(x: torch.Tensor) -> torch.Tensor:
    return x[:, :, x.shape[2] // 2 :, : x.shape[3] - 1]


def _range(x: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(x.shape[2], dtype=x.dtype)
    columns = torch.arange(x.shape[3], dtype=x.dtype)
    return x + rows.unsqueeze(1) * 0.5 + columns * 0.25


def _causal_mask(x: torch.Tensor) -> torch.Tensor:
    places = torch.arange(x.shape[3])
    visible = places.unsqueeze(0) <= torch.arange(x.shape[2]).unsqueeze(1)
    return torch.where(visible, x, torch.full_like(x, -1.0))


def _windows(x: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = x.shape
    tiles = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, channels).sum(1)


def _flatten(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2).mean(2)


def _pad_to_multiple(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x, [0, (4 - x.shape[3] % 4) % 4])


CHAINS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    f.__name__.strip("_"): f
    for f in (_reshape, _expand, _resize_to_twice, _slice, _range, _causal_mask, _windows, _flatten)
}

EXAMPLE = (13, 4, 14, 22)
SIZES = ((13, 14, 22), (1, 2, 2), (2, 6, 4), (3, 4, 30), (7, 16, 10))


class Chains(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [chain(x) for chain in CHAINS.values()]


class One(nn.Module):
    def __init__(self, chain: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.chain(x)


def _export(module: nn.Module, exporter: str, path: Path) -> Path:
    example = torch.randn(EXAMPLE)
    axes = {0: "batch", 2: "height", 3: "width"}
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            if exporter == "torchscript":
                torch.onnx.export(
                    module, (example,), str(path), dynamo=False, opset_version=17, input_names=["x"],
                    dynamic_axes={"x": axes},
                )  # fmt: skip
            else:
                dims = {0: torch.export.Dim("batch", min=1, max=64)} | {
                    axis: 2 * torch.export.Dim(f"half_{name}", min=1, max=64)
                    for axis, name in axes.items()
                    if axis
                }
                torch.onnx.export(
                    module, (example,), str(path), dynamo=True, opset_version=18, input_names=["x"],
                    dynamic_shapes=(dims,), verbose=False,
                )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return path


def _sizes_of_the_example(program: Program) -> list[str]:
    """Numbers of the example that stand in calls, where sizes of the call's input should."""
    wanted = {EXAMPLE[0], EXAMPLE[2], EXAMPLE[3], EXAMPLE[2] // 2, EXAMPLE[3] // 2, EXAMPLE[3] - 1}
    return [
        f"{node.target}{node.args}"
        for node in program.operator_nodes()
        if wanted & {a for a in torch.utils._pytree.tree_leaves(node.args) if type(a) is int}
    ]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_one_import_runs_at_any_size(exporter: str, tmp_path: Path) -> None:
    path = _export(Chains().eval(), exporter, tmp_path / "chains.onnx")
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert {"Shape", "Reshape", "Expand", "Resize", "Slice", "Range"} <= operators
    program = import_onnx(path).check()
    shape = program.signature.inputs[0].shape
    assert [isinstance(size, str) for size in shape] == [True, False, True, True]
    assert all(any(isinstance(size, str) for size in out.shape) for out in program.signature.outputs)
    assert _sizes_of_the_example(program) == []
    batches = [[torch.randn(batch, 4, height, width)] for batch, height, width in SIZES]
    verify(program, OnnxRuntimeRunner(path), inputs=batches, runs=4).raise_if_failed()


def test_a_size_that_is_left_in_the_program_is_seen(tmp_path: Path) -> None:
    path = _export(One(lambda x: x.reshape(13, -1)).eval(), "torchscript", tmp_path / "fixed.onnx")
    assert _sizes_of_the_example(import_onnx(path)) != []


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_pad_to_the_next_multiple(exporter: str, tmp_path: Path) -> None:
    path = _export(One(_pad_to_multiple).eval(), exporter, tmp_path / "pad.onnx")
    program = import_onnx(path).check()
    batches = [[torch.randn(batch, 4, height, width)] for batch, height, width in SIZES]
    verify(program, OnnxRuntimeRunner(path), inputs=batches, runs=4).raise_if_failed()
