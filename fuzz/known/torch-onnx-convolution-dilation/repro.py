"""A stride or dilation of one number for a picture becomes an attribute of one number in a Conv.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch


class Model(torch.nn.Module):
    def forward(self, x, w):
        return torch.ops.aten.conv2d(x, w, None, [1], [0], [1])


inputs = (torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3))

try:
    model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
except Exception as error:  # the exceptions of both have no narrower base
    if "has incorrect size" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:200])
    sys.exit(1)
print("gone")
