"""Small ONNX files, right ones and wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DRAW = np.random.default_rng(0)
WEIGHT = DRAW.normal(size=(8, 4)).astype(np.float32)


def model(nodes: list[Any] | None = None, *, weight: np.ndarray = WEIGHT) -> onnx.ModelProto:
    """``y = relu(x @ w)`` with a dynamic batch; or other nodes between ``x`` and ``y``."""
    if nodes is None:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="fc/matmul"),
            helper.make_node("Relu", ["h"], ["y"], name="fc/relu"),
        ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def external(folder: Path, location: str, *, length: int | None = None) -> Path:
    """A model whose weight is said to be in the file ``location``; that file is not written."""
    made = model()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": "0", "length": str(length or WEIGHT.nbytes)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "external.onnx"
    path.write_bytes(made.SerializeToString())
    return path
