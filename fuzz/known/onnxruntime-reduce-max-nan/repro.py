"""ReduceMax, ReduceMin and MaxPool pass by NaN, unless it comes first.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

inputs = {"x0": np.array([1, np.nan, 3], "float32")}
node = helper.make_node("ReduceMax", list(inputs), ["y"])
types = [
    helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    for name, x in inputs.items()
]
result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
graph = helper.make_graph([node], "g", types, [result])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
cpu = ["CPUExecutionProvider"]
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=cpu)
(got,) = session.run(None, inputs)
expected = inputs["x0"].max(keepdims=True)
if np.array_equal(got, expected, equal_nan=True):
    print("gone")
    sys.exit(0)
print(f"still there: {got.tolist()} instead of {expected.tolist()}")
sys.exit(1)
