"""Concatenation with an empty tensor of one dimension, as caches begin, is refused.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x, y):
        return torch.cat([x, y])


inputs = (torch.empty(0), torch.ones(2, 3))

exported = torch.export.export(Model(), inputs)
try:
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    (got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
except ValueError as error:
    if "same ndim" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
