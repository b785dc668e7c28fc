"""The fusion of Pad into Conv also takes a Pad that makes the weight, and leaves a graph that does not
load.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

nodes = [helper.make_node("Pad", ["k", "pads"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
graph = helper.make_graph(
    nodes,
    "g",
    [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4]),
        helper.make_tensor_value_info("k", TensorProto.FLOAT, [2, 2, 1, 1]),
    ],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 3])],
    [numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 0, 1]), "pads")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
except Exception as error:  # onnxruntime's exceptions have no narrower base
    if "not a graph input" not in str(error):
        raise
    print("still there:", str(error).splitlines()[0][:200])
    sys.exit(1)
print("gone")
