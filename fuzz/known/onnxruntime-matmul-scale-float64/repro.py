"""A product of float64 matrices times a number is fused to one operator whose factor is float32.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

nodes = [
    helper.make_node("Transpose", ["b"], ["t"], perm=[1, 0]),
    helper.make_node("MatMul", ["a", "t"], ["c"]),
    helper.make_node("Mul", ["c", "k"], ["y"]),
]
graph = helper.make_graph(
    nodes,
    "g",
    [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [3, 2]) for n in "ab"],
    [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [3, 3])],
    [numpy_helper.from_array(np.array(0.1), "k")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
(y,) = session.run(None, {"a": np.ones((3, 2)), "b": np.ones((3, 2))})
if abs(y[0, 0] - 0.2) < 1e-12:
    print("gone")
    sys.exit(0)
print(f"still there: {float(y[0, 0])!r} instead of 0.2")
sys.exit(1)
