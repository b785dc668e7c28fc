"""Resize by scales that do not divide the sizes, against ONNX's reference evaluator and onnxruntime."""

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from graphopt.frontends.onnx import import_onnx
from graphopt.verification import OnnxRuntimeRunner, verify


@pytest.mark.parametrize("scale", [1.1, 2.002, 1.3, 2.0, 0.6])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_takes_the_scale_also_where_the_size_is_a_multiple(scale: float, mode: str) -> None:
    """torch's nearest kernels ignore the scale where the size doubles or stays."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 1, N, 5] x) => (float[a, b, c, d] y) <float[4] s = {{1, 1, 1, {scale}}}> {{
            y = Resize <mode = "{mode}", coordinate_transformation_mode = "asymmetric",
                        nearest_mode = "floor"> (x, , s)
        }}"""
    )
    x = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    (got,) = import_onnx(model)(torch.from_numpy(x))
    assert got.shape == expected.shape
    if mode == "nearest":
        assert got.tolist() == expected.tolist()
    if scale == 1.1:
        return  # onnxruntime copies where the size stays; the specification does not.
    verify(import_onnx(model), OnnxRuntimeRunner(model.SerializeToString()), draws=1).raise_if_failed()
