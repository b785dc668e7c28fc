"""PP-OCRv4's files, with the dynamic axes that they have, against onnxruntime."""

import importlib.util
from pathlib import Path

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
    program = import_onnx(_FOLDER / file).check()
    assert program.signature.inputs[0].shape == shape
    report = verify(program, OnnxRuntimeRunner(_FOLDER / file), shapes=sizes, draws=2)
    report.raise_if_failed()
