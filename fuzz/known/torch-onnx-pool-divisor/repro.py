"""`divisor_override` of average pooling is dropped.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch
import torch.nn.functional as F


class Model(torch.nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 2, divisor_override=3)


inputs = (torch.ones(1, 1, 2, 2),)
expected = Model()(*inputs)
model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
(got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
got = torch.from_numpy(got)
if got.dtype == expected.dtype and torch.allclose(got, expected, rtol=1e-5, atol=0, equal_nan=True):
    print("gone")
    sys.exit(0)
print(f"still there: {got.dtype} {got.tolist()} instead of {expected.dtype} {expected.tolist()}"[:300])
sys.exit(1)
