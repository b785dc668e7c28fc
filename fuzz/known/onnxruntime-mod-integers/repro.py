"""Mod of integers with C's sign (fmod=1) is computed in floating point.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

inputs = {"x0": np.array([2**53 + 3]), "x1": np.array([2**53])}
node = helper.make_node("Mod", list(inputs), ["y"], fmod=1)
types = [
    helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    for name, x in inputs.items()
]
result = helper.make_tensor_value_info("y", TensorProto.INT64, [1])
graph = helper.make_graph([node], "g", types, [result])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
cpu = ["CPUExecutionProvider"]
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=cpu)
(got,) = session.run(None, inputs)
expected = np.fmod(inputs["x0"], inputs["x1"])
if np.array_equal(got, expected, equal_nan=True):
    print("gone")
    sys.exit(0)
print(f"still there: {got.tolist()} instead of {expected.tolist()}")
sys.exit(1)
