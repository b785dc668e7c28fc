"""`any` of floats along an axis is a float.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x):
        return x.any(1)


inputs = (torch.tensor([[0.0, 1.0], [0.0, 0.0]]),)
expected = Model()(*inputs)
exported = torch.export.export(Model(), inputs)
machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
(got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
got = torch.from_dlpack(got)
if got.dtype == expected.dtype and torch.allclose(got, expected, rtol=1e-3, atol=0, equal_nan=True):
    print("gone")
    sys.exit(0)
print(f"still there: {got.dtype} {got.tolist()} instead of {expected.dtype} {expected.tolist()}"[:300])
sys.exit(1)
