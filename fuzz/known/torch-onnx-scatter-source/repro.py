"""`scatter` from a source that is larger than the index becomes a ScatterElements that no runtime accepts.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch


class Model(torch.nn.Module):
    def forward(self, x, i, y):
        return x.scatter(0, i, y)


inputs = (torch.zeros(3, 4), torch.tensor([[2, 0]]), torch.ones(2, 3))

try:
    model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
except Exception as error:  # the exceptions of both have no narrower base
    if "dimensions differs" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:200])
    sys.exit(1)
print("gone")
