"""A group norm without weight and bias becomes a program with null nodes.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import torch.nn.functional as F
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x):
        return F.group_norm(x, 2)


inputs = (torch.arange(24.0).reshape(2, 4, 3),)

exported = torch.export.export(Model(), inputs)
try:
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    (got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
except tvm.error.InternalError as error:
    if "null pointer" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
