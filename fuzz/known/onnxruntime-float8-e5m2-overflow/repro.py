"""Conversion to float8_e5m2 without saturation makes NaN, and not infinity, of numbers little larger than
the largest.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

nodes = [
    helper.make_node("Cast", ["x"], ["e"], to=TensorProto.FLOAT8E5M2, saturate=0),
    helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
]
graph = helper.make_graph(
    nodes,
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
(y,) = session.run(None, {"x": np.array([61440, 70000], "float32")})
if np.isinf(y).all():
    print("gone")
    sys.exit(0)
print(f"still there: {y.tolist()} instead of infinities")
sys.exit(1)
