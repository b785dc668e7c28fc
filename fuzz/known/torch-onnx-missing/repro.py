"""Stable sorting, `kthvalue`, `cumprod`, `copysign`, `hypot`, `view(dtype)` and `_int_mm` cannot be
exported.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.sort(x, dim=0, stable=True).values


inputs = (torch.tensor([2.0, 1.0]),)

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
