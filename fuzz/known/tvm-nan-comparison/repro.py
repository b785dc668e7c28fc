"""The simplifier takes `x != x` of floats for false, though it is true of NaN.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import tvm
from tvm import te, tirx

x = te.placeholder((2,), "float32", name="x")
y = te.compute((2,), lambda i: tirx.Cast("int32", tirx.NE(x[i], x[i])), name="y")
module = tvm.compile(te.create_prim_func([x, y]), target="llvm")
data, result = np.array([1, np.nan], "float32"), tvm.runtime.tensor(np.zeros(2, "int32"))
module(tvm.runtime.tensor(data), result)
got, expected = result.numpy(), np.isnan(data).astype("int32")
if np.array_equal(got, expected):
    print("gone")
    sys.exit(0)
print(f"still there: {got.tolist()} instead of {expected.tolist()}")
sys.exit(1)
