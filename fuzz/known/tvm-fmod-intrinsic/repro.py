"""`tirx.fmod` has no lowering for CPUs.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import tvm
from tvm import te, tirx

x = te.placeholder((2,), "float32", name="x")
y = te.compute((2,), lambda i: tirx.fmod(x[i], tirx.const(3.0, "float32")), name="y")
try:
    tvm.compile(te.create_prim_func([x, y]), target="llvm")
except tvm.error.InternalError as error:
    if "unknown intrinsic" not in str(error):
        raise
    print("still there:", str(error).strip().splitlines()[0][:160])
    sys.exit(1)
print("gone")
