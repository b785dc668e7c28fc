"""int64 divided by a Python integer, rounded down, is a type error: the integer becomes int32.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x):
        return x // 3


inputs = (torch.arange(-5, 5),)

exported = torch.export.export(Model(), inputs)
try:
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    (got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
except TypeError as error:
    if "must have the same datatype" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
