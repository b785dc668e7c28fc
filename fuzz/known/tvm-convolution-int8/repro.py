"""A convolution of int8 comes back as float32, so that what overflows does not wrap.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x, w):
        return torch.conv2d(x, w)


inputs = (torch.full((1, 2, 4, 4), 100, dtype=torch.int8), torch.ones(3, 2, 3, 3, dtype=torch.int8))
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
