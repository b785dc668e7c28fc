"""Operators in ONNX: the right numbers in onnxruntime, and the node that ONNX has for them.

The cases are what torch.onnx 2.13 has wrong, lacks or expands, and their neighbours.  All run in one
export for each opset, one output a case; numbers are compared by ``graphopt.verification``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.errors import InputError
from graphopt.exporters.onnx import to_onnx, to_onnx_model
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify

aten = torch.ops.aten
attend = F.scaled_dot_product_attention

CASES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    # a call, and the inputs that it takes
    "squeeze of an axis that is not 1": (lambda x: aten.squeeze.dim(x, 1) * 2, ("image",)),
    "squeeze of some axes": (lambda x: aten.squeeze.dims(x[:, :1], [1, 2]) * 2, ("image",)),
    "squeeze of all axes": (lambda x: aten.squeeze.default(x[:1, :1]) * 2, ("image",)),
    "unbind": (lambda x: [t * (i + 1) for i, t in enumerate(x.unbind(1))], ("image",)),
    "unused split output": (lambda x: x.split([1, 2, 1], 1)[1] * 2, ("image",)),
    "one chunk of a constant": (
        lambda x: aten.chunk.default(torch.arange(8.0).reshape(2, 4) * 2, 1)[0] + x[0, 0, 0, 0], ("image",)
    ),
    "average pool with a divisor": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=2), ("image",)
    ),
    "average pool, ceil": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), ("image",)),
    "global average pool": (lambda x: F.adaptive_avg_pool2d(x, 1), ("image",)),
    "even adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (4, 2)), ("image",)),
    "uneven adaptive pool": (lambda x: F.adaptive_avg_pool2d(x, (3, 5)), ("image",)),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2.0), ("image",)),
    "nearest, size": (lambda x: F.interpolate(x, size=(7, 9)), ("image",)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), ("image",)),
    "bilinear, corners": (
        lambda x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True), ("image",)
    ),
    "linear": (lambda x: F.interpolate(x[:, :, 0], size=9, mode="linear"), ("image",)),
    "linear, scale": (lambda x: F.interpolate(x[:, :, 0], scale_factor=1.5, mode="linear"), ("image",)),
    "batch norm": (
        lambda x: F.batch_norm(x, torch.arange(4.0), torch.arange(1.0, 5.0), None, None), ("image",)
    ),
    "transposed convolution": (
        lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 3, 3) / 9, stride=2, padding=1, output_padding=1),
        ("image",),
    ),
    "hard swish": (F.hardswish, ("image",)),
    "hard sigmoid": (F.hardsigmoid, ("image",)),
    "movedim": (lambda x: x.movedim(0, 2) * 2, ("image",)),
    "layer norm": (lambda x: F.layer_norm(x, (8,)), ("image",)),
    "RMS norm": (lambda x: F.rms_norm(x, (8,), torch.arange(8.0), 1e-6), ("image",)),
    "RMS norm, default epsilon": (lambda x: F.rms_norm(x, (8,)), ("image",)),
    "exact GELU": (F.gelu, ("image",)),
    "cat with an empty tensor": (lambda x: torch.cat([torch.zeros(0), x], 1), ("image",)),
    "assignment by index": (
        lambda x: x.index_put((torch.tensor([0, 1]), torch.tensor([3, 0])), torch.tensor(7.0)), ("image",)
    ),
    "sum of booleans": (lambda m: torch.where(m + m.roll(1, 3), 1.0, 2.0), ("visible",)),
    "product of booleans": (lambda m: torch.where(m * m.roll(1, 3), 1.0, 2.0), ("visible",)),
    "integer matmul": (
        lambda x: torch._int_mm((x[0, 0] * 20).to(torch.int8), (x[0, 1] * 20).to(torch.int8)), ("image",)
    ),
    "attention": (lambda q, k, v: attend(q, k, v), ("q", "k", "v")),
    "attention, scale": (lambda q, k, v: attend(q, k, v, scale=0.3), ("q", "k", "v")),
    "attention, causal": (lambda q, k, v: attend(q, k, v, is_causal=True), ("q", "k", "v")),
    "attention, grouped": (lambda q, k, v: attend(q, k[:, :2], v[:, :2], enable_gqa=True), ("q", "k", "v")),
    "attention, grouped by one": (lambda q, k, v: attend(q, k, v, enable_gqa=True), ("q", "k", "v")),
    "attention of rank 3": (lambda q, k, v: attend(q[0], k[0], v[0]), ("q", "k", "v")),
    "attention, rows masked": (attend, ("q", "k", "v", "visible")),
    "attention, mask of one row": (
        lambda q, k, v, m: attend(q, k, v, m[:, :, 1:2]), ("q", "k", "v", "visible")
    ),
    "attention, flat mask": (lambda q, k, v, m: attend(q, k, v, m[0, 0]), ("q", "k", "v", "visible")),
    "attention, lowest number": (
        lambda q, k, v, m: attend(q, k, v, torch.where(m, 0.0, torch.finfo(torch.float32).min)),
        ("q", "k", "v", "visible"),
    ),
    "attention, minus infinity": (
        lambda q, k, v, m: attend(q, k, v, torch.where(m, 0.5, float("-inf"))), ("q", "k", "v", "visible")
    ),
}  # fmt: skip

SINGLE_NODES = {
    "hard swish": "HardSwish",
    "hard sigmoid": "HardSigmoid",
    "layer norm": "LayerNormalization",
    "RMS norm": "RMSNormalization",
    "exact GELU": "Gelu",
    "global average pool": "GlobalAveragePool",
    "nearest": "Resize",
    "bilinear": "Resize",
    "linear": "Resize",
    "transposed convolution": "ConvTranspose",
    "attention": "Attention",
}


class All(nn.Module):
    """One output for each case (several where a case returns a list)."""

    def forward(
        self, image: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor
    ) -> list[torch.Tensor]:
        given = {"image": image, "q": q, "k": k, "v": v, "visible": visible}
        results = []
        for call, names in CASES.values():
            result = call(*[given[name] for name in names])
            results.extend(result if isinstance(result, (list, tuple)) else [result])
        return results


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    visible = torch.rand(2, 1, 5, 6) > 0.4
    visible[0, 0, 2] = False  # a row that sees nothing
    shapes = ((2, 4, 8, 8), (2, 4, 5, 8), (2, 4, 6, 8), (2, 4, 6, 8))
    return (*[torch.randn(shape) for shape in shapes], visible)


@pytest.fixture(scope="module")
def program(inputs: tuple[torch.Tensor, ...]) -> Program:
    names = []
    for name, (call, takes) in CASES.items():
        order = ("image", "q", "k", "v", "visible")
        result = call(*[inputs[order.index(n)] for n in takes])
        names += [name] if isinstance(result, torch.Tensor) else [f"{name} {i}" for i in range(len(result))]
    return capture_torch(All().eval(), inputs, output_names=names)


@pytest.mark.parametrize("opset", [18, 20, 23, 26])
def test_onnxruntime_agrees(
    program: Program, inputs: tuple[torch.Tensor, ...], opset: int, tmp_path: Path
) -> None:
    to_onnx(program, tmp_path / "all.onnx", opset=opset)
    assert onnx.load(tmp_path / "all.onnx").opset_import[0].version == opset
    runner = OnnxRuntimeRunner(tmp_path / "all.onnx")
    assert runner.output_names == [spec.name for spec in program.signature.outputs]
    verify(program, runner, inputs=[inputs], runs=4).raise_if_failed()


def test_operators_become_single_nodes(inputs: tuple[torch.Tensor, ...]) -> None:
    order = ("image", "q", "k", "v", "visible")

    class Some(nn.Module):
        def forward(self, *given: torch.Tensor) -> list[torch.Tensor]:
            return [CASES[n][0](*[given[order.index(i)] for i in CASES[n][1]]) for n in SINGLE_NODES]

    nodes = to_onnx_model(capture_torch(Some().eval(), inputs)).graph
    expected = Counter(SINGLE_NODES.values())
    expected["Gather"] += 1  # the row that "linear" resizes
    assert Counter(node.op_type for node in nodes) == expected


def test_what_has_no_form_is_listed_at_once() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.linalg.eigvalsh(x), torch.special.bessel_j0(x)

    with pytest.raises(InputError) as caught:
        to_onnx_model(capture_torch(Odd().eval(), (torch.eye(3),)))
    assert caught.value.code == "GO-3005"
    assert "special_bessel_j0" in caught.value.message and "eigvalsh" in caught.value.message


def test_a_use_without_a_form_names_the_node() -> None:
    class Dropout(nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return attend(q, q, q, dropout_p=0.5)

    with pytest.raises(InputError) as caught:
        to_onnx_model(capture_torch(Dropout().eval(), (torch.randn(1, 2, 3, 4),)))
    assert caught.value.code == "GO-3006" and "dropout" in caught.value.message


@pytest.mark.parametrize("opset", [7, 17, 27])
def test_other_opsets_are_refused(tied: Program, opset: int) -> None:
    with pytest.raises(InputError, match="opset"):
        to_onnx_model(tied, opset=opset)
