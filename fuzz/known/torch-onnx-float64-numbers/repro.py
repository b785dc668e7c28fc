"""Python numbers beside float64 tensors are rounded to float32.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import onnxruntime
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return x * 0.1


inputs = (torch.ones(1, dtype=torch.float64),)
expected = Model()(*inputs)
model = torch.onnx.export(Model(), inputs, dynamo=True, verbose=False).model_proto
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
names = [i.name for i in session.get_inputs()]
(got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
got = torch.from_numpy(got)
if got.dtype == expected.dtype and torch.allclose(got, expected, rtol=1e-9, atol=0, equal_nan=True):
    print("gone")
    sys.exit(0)
print(f"still there: {got.dtype} {got.tolist()} instead of {expected.dtype} {expected.tolist()}"[:300])
sys.exit(1)
