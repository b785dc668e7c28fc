"""expm1 is computed as exp(x) - 1, and log1p as log(1 + x): no digits are left of small results.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.expm1(x)


inputs = (torch.tensor([1e-6]),)
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
