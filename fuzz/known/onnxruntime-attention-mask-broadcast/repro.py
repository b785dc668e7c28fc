"""Attention rejects a mask of one row, which ONNX lets stand for all rows.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

q = np.arange(8, dtype="float32").reshape(1, 1, 2, 4)
mask = np.zeros((1, 2), "float32")
names = ["q", "k", "v"]
inputs = [*(helper.make_tensor_value_info(n, TensorProto.FLOAT, q.shape) for n in names)]
inputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, mask.shape))
graph = helper.make_graph(
    [helper.make_node("Attention", [*names, "mask"], ["y"])],
    "g",
    inputs,
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, q.shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
try:
    session.run(None, {"q": q, "k": q, "v": q, "mask": mask})
except Exception as error:  # onnxruntime's exceptions have no narrower base
    print("still there:", str(error).splitlines()[0][:200])
    sys.exit(1)
print("gone")
