"""PP-OCRv4's files, with the dynamic axes that they have, against onnxruntime."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.frontends.onnx import import_onnx
from graphopt.verification import OnnxRuntimeRunner, verify

_PACKAGE = importlib.util.find_spec("rapidocr_onnxruntime")
_FOLDER = Path(_PACKAGE.origin).parent / "models" if _PACKAGE and _PACKAGE.origin else Path()

pytestmark = pytest.mark.skipif(_PACKAGE is None, reason="rapidocr_onnxruntime is not installed")


@pytest.mark.parametrize(
    ("file", "shape", "sizes"),
    [
        (
            "ch_PP-OCRv4_det_infer.onnx",
            ("x_0", 3, "x_2", "x_3"),
            [{"x_0": 1, "x_2": 64, "x_3": 96}, {"x_0": 2, "x_2": 96, "x_3": 32}],
        ),
        (
            "ch_PP-OCRv4_rec_infer.onnx",
            ("x_0", 3, 48, "x_3"),
            [{"x_0": 1, "x_3": 64}, {"x_0": 2, "x_3": 33}],
        ),
        (
            "ch_ppocr_mobile_v2.0_cls_infer.onnx",
            ("x_0", 3, "x_2", "x_3"),
            [{"x_0": 1, "x_2": 48, "x_3": 192}, {"x_0": 3, "x_2": 50, "x_3": 65}],
        ),
    ],
)
def test_one_import_runs_at_several_shapes(
    file: str, shape: tuple[int | str, ...], sizes: list[dict[str, int]]
) -> None:
    model = _without_final_sigmoid(onnx.load(_FOLDER / file))
    program = import_onnx(model).check()
    assert program.signature.inputs[0].shape == shape
    pages = [_pages(program.signature.resolve(shape, s)) for s in sizes]
    runner = OnnxRuntimeRunner(model.SerializeToString())
    verify(program, runner, inputs=[[p] for p in pages]).raise_if_failed()


def _without_final_sigmoid(model: onnx.ModelProto) -> onnx.ModelProto:
    """The detector up to its logits: onnxruntime's sigmoid gives 0 for everything below 1e-8."""
    last = model.graph.node[-1]
    if last.op_type == "Sigmoid":
        model.graph.output[0].name = last.input[0]
        model.graph.node.remove(last)
    return model


def _pages(shape: tuple[int, ...]) -> np.ndarray:
    """Images [N, 3, H, W] in [-1, 1]: rows of dark random glyphs on white."""
    generator = np.random.default_rng(0)
    count, channels, height, width = shape
    page = np.ones((count, channels, height, width), np.float32)
    for top in range(8, height - 20, 28):
        for left in range(8, width - 12, 9):
            glyph = np.kron(generator.random((6, 3)) > 0.45, np.ones((3, 2)))
            page[:, :, top : top + 18, left : left + 6] = 1 - 2 * glyph
    return page + generator.normal(0, 0.02, page.shape).astype(np.float32)
