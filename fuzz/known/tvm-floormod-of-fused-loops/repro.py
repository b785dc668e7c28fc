"""Two remainders of sums with the loops of two axes are simplified to something else once the loops are
fused: elements come from other places.

Exit status: 1 while the bug is there, 0 when it is gone.
"""

import sys

import numpy as np
import tvm
from tvm import te, tirx

# numpy.roll(x, (1, 2), (0, 1)) of 3 x 4 elements, its two loops fused to one.
x = te.placeholder((3, 4), "float32", name="x")
y = te.compute((3, 4), lambda i, j: x[tirx.floormod(i - 1, 3), tirx.floormod(j - 2, 4)], name="y")
schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
schedule.fuse(*schedule.get_loops(schedule.get_sblock("y")))
module = tvm.compile(schedule.mod, target="llvm")
data, result = np.arange(12, dtype="float32").reshape(3, 4), tvm.runtime.tensor(np.zeros((3, 4), "float32"))
module["main"](tvm.runtime.tensor(data), result)
got, expected = result.numpy(), np.roll(data, (1, 2), (0, 1))
if np.array_equal(got, expected):
    print("gone")
    sys.exit(0)
print(f"still there: {got.tolist()} instead of {expected.tolist()}")
sys.exit(1)
