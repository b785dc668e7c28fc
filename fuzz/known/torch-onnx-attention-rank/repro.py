"""Attention on operands of rank 3 cannot be exported.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch
import torch.nn.functional as F


class Model(torch.nn.Module):
    def forward(self, q):
        return F.scaled_dot_product_attention(q, q, q)


inputs = (torch.ones(2, 4, 8),)

try:
    model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
except Exception as error:  # the exceptions of both have no narrower base
    if "Failed to convert" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:200])
    sys.exit(1)
print("gone")
