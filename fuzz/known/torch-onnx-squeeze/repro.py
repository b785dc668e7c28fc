"""`squeeze` of an axis whose size is not 1, which torch leaves alone, becomes a Squeeze that no runtime
accepts.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x.squeeze(0)


inputs = (torch.ones(2, 1),)

try:
    model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
except Exception as error:  # the exceptions of both have no narrower base
    if "Dimension of input 0 must be 1" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:200])
    sys.exit(1)
print("gone")
