"""atanh loses its digits near zero: 1e-6 gives 9.83e-7.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import tvm
from tvm import te, tirx

x = te.placeholder((1,), "float32", name="x")
y = te.compute((1,), lambda i: tirx.atanh(x[i]), name="y")
module = tvm.compile(te.create_prim_func([x, y]), target="llvm")
data, result = np.array([1e-6], "float32"), tvm.runtime.tensor(np.zeros(1, "float32"))
module(tvm.runtime.tensor(data), result)
got, expected = result.numpy().round(8), np.arctanh(data).round(8)
if np.array_equal(got, expected):
    print("gone")
    sys.exit(0)
print(f"still there: {got.tolist()} instead of {expected.tolist()}")
sys.exit(1)
