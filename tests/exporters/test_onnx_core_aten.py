"""Every core ATen operator as ONNX: checked, run in onnxruntime and compared, or listed here with the reason.

Most have samples in ``tests/codegen_relax``, which ``test_onnx_samples`` exports; the rest is here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen_relax"))  # samples stand there

import samples_movement  # noqa: E402, F401
import samples_pointwise  # noqa: E402, F401
import samples_structure  # noqa: E402, F401
from samples import SAMPLES  # noqa: E402

from graphopt.errors import InputError  # noqa: E402
from graphopt.exporters.onnx import to_onnx, to_onnx_model  # noqa: E402
from graphopt.frontends.torch_module import capture_torch  # noqa: E402
from graphopt.verification import OnnxRuntimeRunner, verify  # noqa: E402

aten = torch.ops.aten

_RANDOM = "random: a program has one result for one input"
_IN_PLACE = "writes into an operand: programs are functional"
_SIZES = "a size or stride of the example, which torch.export puts in as a number or an input's axis"
_UNDEFINED = "whatever was in memory"

WITHOUT_A_FORM: dict[str, str] = {
    "aten.rand.default": _RANDOM,
    "aten.randn.default": _RANDOM,
    "aten.randperm.default": _RANDOM,
    "aten.atan2.out": _IN_PLACE,
    "aten.resize_.default": _IN_PLACE,
    "aten._native_batch_norm_legit.default": _IN_PLACE,
    "aten.empty.memory_format": _UNDEFINED,
    "aten.empty_strided.default": _UNDEFINED,
    "aten.sym_is_contiguous.default": _SIZES,
    "aten.sym_numel.default": _SIZES,
    "aten.sym_size.int": _SIZES,
    "aten.sym_storage_offset.default": _SIZES,
    "aten.sym_stride.int": _SIZES,
    "aten._local_scalar_dense.default": "a number that data decides, in place of a tensor",
}


def core_operators() -> dict[str, Any]:
    """By name."""
    found = {}
    for name in torch._C._dispatch_get_all_op_names():
        packet, _, overload = name.removeprefix("aten::").partition(".")
        if name.startswith("aten::") and hasattr(aten, packet):
            operator = getattr(getattr(aten, packet), overload or "default", None)
            if operator is not None and torch.Tag.core in operator.tags:
                found[str(operator)] = operator
    return found


def _conv_gradients(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> Any:
    """Strides that leave a row and a column over."""
    return aten.convolution_backward.default(
        grad, x, weight, [4], [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True] * 3
    )


_indices = torch.tensor([[[[0, 9], [12, 23]], [[2, 8], [14, 21]]]])

CALLS: dict[str, list[tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]]] = {
    "aten._adaptive_avg_pool2d_backward.default": [
        (aten._adaptive_avg_pool2d_backward.default, ((1, 2, 3, 2), (1, 2, 6, 5))),
    ],
    "aten.avg_pool2d_backward.default": [
        (lambda g, x: aten.avg_pool2d_backward.default(g, x, [3, 2], [2, 2], [1, 1], False, False, None),
         ((1, 2, 3, 4), (1, 2, 6, 6))),
        (lambda g, x: aten.avg_pool2d_backward.default(g, x, [3], [], [0], True, True, None),
         ((2, 3, 3), (2, 7, 7))),
        (lambda g, x: aten.avg_pool2d_backward.default(g, x, [2, 2], [2, 2], [0, 0], False, True, 3),
         ((1, 2, 3, 3), (1, 2, 6, 6))),
    ],
    "aten._cdist_forward.default": [
        (lambda a, b, p=p: aten._cdist_forward.default(a, b, p, None), ((2, 5, 3), (2, 4, 3)))
        for p in (0.0, 1.0, 2.0, 3.0, float("inf"))
    ],
    "aten._pdist_forward.default": [(lambda x: aten._pdist_forward.default(x, 2.0), ((5, 3),))],
    "aten._embedding_bag.default": [
        (lambda w: aten._embedding_bag.default(w, torch.tensor([1, 2, 4, 5]), torch.tensor([0, 1]))[0],
         ((10, 3),)),
    ],
    "aten._fft_r2c.default": [
        (lambda x: torch.view_as_real(aten._fft_r2c.default(x, [1], 0, True)), ((3, 8),))
    ],
    "aten._fft_c2r.default": [
        (lambda x: aten._fft_c2r.default(torch.view_as_complex(x), [1], 2, 8), ((3, 5, 2),))
    ],
    "aten._native_batch_norm_legit.no_stats": [
        (lambda x: aten._native_batch_norm_legit.no_stats(x, None, None, True, 0.1, 1e-5)[0], ((2, 3, 4),)),
    ],
    "aten.col2im.default": [
        (lambda x: aten.col2im.default(x, [4, 4], [2, 2], [1, 1], [0, 0], [2, 2]), ((1, 12, 4),))
    ],
    "aten.convolution_backward.default": [(_conv_gradients, ((2, 4, 3, 3), (2, 3, 6, 6), (4, 3, 3, 3)))],
    "aten.embedding_dense_backward.default": [
        (lambda g: aten.embedding_dense_backward.default(g, torch.tensor([1, 2, 1, 0]), 5, -1, False),
         ((4, 3),)),
    ],
    "aten.grid_sampler_2d.default": [
        (lambda x, g: aten.grid_sampler_2d.default(x, g.tanh(), 0, 0, False), ((1, 2, 5, 5), (1, 3, 3, 2))),
    ],
    "aten.masked_scatter.default": [
        (lambda x, y: aten.masked_scatter.default(x, x > 0, y), ((3, 4), (12,))),
    ],
    "aten.max_pool2d_with_indices_backward.default": [
        (lambda g, x: aten.max_pool2d_with_indices_backward.default(
            g, x, [2, 2], [2, 2], [0, 0], [1, 1], False, _indices), ((1, 2, 2, 2), (1, 2, 5, 5))),
    ],
    "aten.max_pool3d_with_indices.default": [
        (lambda x: aten.max_pool3d_with_indices.default(x, [2, 2, 2], [2, 2, 2]), ((2, 2, 4, 4, 4),)),
        (lambda x: aten.max_pool3d_with_indices.default(x, [2, 2, 2], [1, 1, 1], [1, 1, 1]), ((2, 3, 4, 4),)),
    ],
    "aten.native_dropout.default": [(lambda x: aten.native_dropout.default(x, 0.5, False), ((3, 4),))],
    "aten.native_group_norm.default": [
        (lambda x, w: aten.native_group_norm.default(x, w, w, 2, 4, 5, 2, 1e-5), ((2, 4, 5), (4,))),
    ],
    "aten.native_group_norm_backward.default": [
        (lambda g, x, m, w: aten.native_group_norm_backward.default(
            g, x, m, m.exp(), w, 2, 4, 5, 2, [True] * 3), ((2, 4, 5), (2, 4, 5), (2, 2), (4,))),
    ],
    "aten.native_layer_norm.default": [
        (lambda x, w: aten.native_layer_norm.default(x, [5], w, w, 1e-5), ((2, 4, 5), (5,))),
    ],
    "aten.native_layer_norm_backward.default": [
        (lambda g, x, m, w: aten.native_layer_norm_backward.default(
            g, x, [5], m, m.exp(), w, w, [True] * 3), ((2, 4, 5), (2, 4, 5), (2, 4, 1), (5,))),
    ],
    "aten.nonzero.default": [(lambda x: aten.nonzero.default(x > 0), ((3, 4),))],
}  # fmt: skip
"""By operator: calls, and the shapes of their float operands."""


class _All(torch.nn.Module):
    """The results of all calls, one after the other."""

    def __init__(self, calls: list[tuple[str, Callable[..., Any], tuple[tuple[int, ...], ...]]]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        following = iter(tensors)
        results = []
        for _, call, shapes in self.calls:
            result = call(*[next(following) for _ in shapes])
            results += [result] if isinstance(result, torch.Tensor) else [y for y in result if y is not None]
        return results


def test_every_core_operator_has_a_sample_or_a_reason() -> None:
    core = core_operators()
    assert len(core) > 180
    sampled = {str(target) for target in SAMPLES}
    assert sorted(set(core) - sampled - set(CALLS) - set(WITHOUT_A_FORM)) == []
    # Nothing is listed that has a sample, or is not there any more.
    assert not set(WITHOUT_A_FORM) & set(CALLS)
    assert set(WITHOUT_A_FORM) | set(CALLS) <= set(core)


def test_onnxruntime_agrees(tmp_path: Path) -> None:
    calls = [(name, call, shapes) for name, members in CALLS.items() for call, shapes in members]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=generator) for _, _, shapes in calls for s in shapes]
    module = _All(calls).eval()
    # Calls stay the operators that they are: torch.export decomposes none of core ATen.
    program = capture_torch(module, inputs)
    present = {str(node.target) for node in program.graph.nodes}
    assert set(CALLS) - present == set()
    to_onnx(program, tmp_path / "core.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "core.onnx"), inputs=inputs, runs=2).raise_if_failed()


def test_a_complex_output_is_refused_with_its_name() -> None:
    module = _All([("", lambda x: aten._fft_r2c.default(x, [1], 0, True), ((3, 8),))]).eval()
    with pytest.raises(InputError, match="complex") as error:
        to_onnx_model(capture_torch(module, (torch.ones(3, 8),), output_names=["spectrum"]))
    assert error.value.code == "GO-3006" and "spectrum" in error.value.message


def test_a_grouped_derivative_is_refused() -> None:
    def call(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> Any:
        return aten.convolution_backward.default(
            grad, x, weight, [4], [1, 1], [0, 0], [1, 1], False, [0, 0], 2, [True] * 3
        )

    shapes = ((1, 4, 4, 4), (1, 4, 6, 6), (4, 2, 3, 3))
    with pytest.raises(InputError, match="grouped convolution") as error:
        to_onnx_model(capture_torch(_All([("", call, shapes)]).eval(), [torch.ones(s) for s in shapes]))
    assert error.value.code == "GO-3006"
