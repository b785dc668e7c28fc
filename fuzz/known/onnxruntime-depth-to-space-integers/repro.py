"""DepthToSpace has no kernels for integers.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper

inputs = {"x0": np.ones((1, 4, 1, 1), "int64")}
node = helper.make_node("DepthToSpace", list(inputs), ["y"], blocksize=2)
types = [
    helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    for name, x in inputs.items()
]
result = helper.make_tensor_value_info("y", TensorProto.INT64, [1, 1, 2, 2])
graph = helper.make_graph([node], "g", types, [result])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
try:
    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=cpu)
    (got,) = session.run(None, inputs)
except Exception as error:  # onnxruntime's exceptions have no narrower base
    if "Could not find an implementation" not in str(error):
        raise
    print("still there:", str(error).splitlines()[0][:200])
    sys.exit(1)
print("gone")
