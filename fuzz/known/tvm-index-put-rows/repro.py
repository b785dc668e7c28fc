"""`index_put` with fewer indices than dimensions is refused.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x, i, y):
        return x.index_put((i,), y)


inputs = (torch.zeros(3, 2), torch.tensor([2]), torch.ones(1, 2))

exported = torch.export.export(Model(), inputs)
try:
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    (got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
except ValueError as error:
    if "IndexPut requires" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
