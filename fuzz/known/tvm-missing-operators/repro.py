"""The importer lacks `amax`, `amin`, `prod` of an axis, shifts, `_int_mm`, `exp2`, `copysign`, `cummax`,
`view(dtype)`, `unfold` and `adaptive_max_pool2d`.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch import from_exported_program


class Model(torch.nn.Module):
    def forward(self, x):
        return x.amax(1)


inputs = (torch.arange(6.0).reshape(2, 3),)

exported = torch.export.export(Model(), inputs)
try:
    machine = relax.VirtualMachine(tvm.compile(from_exported_program(exported), target="llvm"), tvm.cpu())
    (got,) = machine["main"](*(tvm.runtime.tensor(x.numpy()) for x in inputs))
except AssertionError as error:
    if "Unsupported function types" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
