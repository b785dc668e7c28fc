# ruff: noqa: E501 - a table, one line a case
"""Samples of views, joins, indexing, padding, creation and sorting."""

from __future__ import annotations

import torch
from samples import cases, overloads

cases(
    overloads("view", "reshape", "_unsafe_view", "_reshape_alias")[:3],
    lambda t: (t(t.n, 3, 4), [t.n, 12]),
    lambda t: (t(t.n, 3, 4), [-1, 4]),
)
cases(overloads("_reshape_alias"), lambda t: (t(2, 3, 4), [6, 4], [4, 1]))
cases(overloads("view_as", "reshape_as", "expand_as"), lambda t: (t(t.n, 4, 1), t(t.n, 4, 1)))
cases(overloads("flatten.using_ints"), lambda t: (t(t.n, 3, 4), 1), lambda t: (t(t.n, 3, 4), 0, 1))
cases(overloads("unflatten.int"), lambda t: (t(t.n, 12), 1, [3, 4]))
cases(overloads("ravel", "t", "numpy_T", "matrix_H", "mT"), lambda t: (t(t.n, 4),))
cases(overloads("squeeze"), lambda t: (t(1, t.n, 1, 3),))
cases(overloads("squeeze.dim", "unsqueeze"), lambda t: (t(t.n, 1, 3), 1), lambda t: (t(t.n, 1, 3), -1))
cases(overloads("squeeze.dims"), lambda t: (t(t.n, 1, 3, 1), [1, 3, 2]))
cases(overloads("pixel_shuffle"), lambda t: (t(t.n, 8, 3, 4), 2))
cases(overloads("pixel_unshuffle"), lambda t: (t(t.n, 2, 6, 4), 2))
cases(overloads("channel_shuffle"), lambda t: (t(t.n, 6, 3, 2), 3))
cases(overloads("permute"), lambda t: (t(t.n, 3, 4), [2, 0, -2]))
cases(overloads("transpose.int", "swapaxes", "swapdims", "movedim.int"), lambda t: (t(t.n, 3, 4), 0, -1))
cases(overloads("movedim.intlist"), lambda t: (t(t.n, 3, 4), [0, 2], [1, 0]))
cases(overloads("expand", "broadcast_to"), lambda t: (t(t.n, 1, 4), [t.n, 3, 4]), lambda t: (t(4), [2, 3, 4]))
cases(overloads("repeat"), lambda t: (t(t.n, 3), [2, 1, 3]), lambda t: (t(3), [1, 2]))
cases(overloads("tile"), lambda t: (t(t.n, 3), [2]))
cases(overloads("repeat_interleave.self_int"), lambda t: (t(t.n, 3), 2, 1), lambda t: (t(2, 3), 2))
cases(overloads("flip"), lambda t: (t(t.n, 3, 4), [0, -1]))
cases(overloads("roll"), lambda t: (t(t.n, 5), [2, -1], [1, 0]), lambda t: (t(t.n, 5), [3]))
cases(overloads("slice.Tensor"), lambda t: (t(t.n, 9), 1, 1, -2), lambda t: (t(t.n, 9), 1, -5, 9223372036854775807, 2),
      lambda t: (t(t.n, 9), 0, 1, None), lambda t: (t(t.n, 9), 0, -2, None))  # fmt: skip
cases(overloads("narrow"), lambda t: (t(t.n, 9), 1, 2, 5))
cases(
    overloads("select.int"),
    lambda t: (t(t.n, 9), 1, -1),
    lambda t: (t(t.n, 9), 0, -2),
    lambda t: (t(t.n, 9), -1, 3),
)
cases(overloads("split.Tensor", "unsafe_split.Tensor"), lambda t: (t(t.n, 7), 3, 1))
cases(overloads("split.sizes", "split_with_sizes"), lambda t: (t(t.n, 7), [3, 4], 1))
cases(overloads("chunk", "tensor_split.sections", "unsafe_chunk"), lambda t: (t(t.n, 8), 3, -1))
cases(overloads("unbind.int"), lambda t: (t(t.n, 3), 1))
cases(overloads("cat", "concat", "concatenate"), lambda t: ([t(t.n, 3), t(t.n, 2)], 1), lambda t: ([t(0), t(t.n, 2)], 0),
      lambda t: ([t(t.n, 3), t(2, 3)], 0), lambda t: ([t(t.n, 3), t(t.n, 3, dtype=torch.float32)], -1))  # fmt: skip
cases(overloads("stack"), lambda t: ([t(t.n, 3), t(t.n, 3)], 1), lambda t: ([t(t.n, 3), t(t.n, 3)], -1))
cases(
    overloads("diagonal", "diagonal_copy"),
    lambda t: (t(t.n, 4, 5), 1, 1, 2),
    lambda t: (t(t.n, 4, 5), -1, 1, 2),
)
cases(overloads("unfold"), lambda t: (t(t.n, 9), 1, 3, 2))
cases(overloads("as_strided"), lambda t: (t(4, 6), [2, 3], [6, 2], 1))

cases(overloads("embedding"), lambda t: (t(10, 4), t.index(t.n, 3, size=10, negative=False)))
cases(
    overloads("index_select"),
    lambda t: (t(t.n, 6), 1, t.index(4, size=6, negative=False)),
    lambda t: (t(t.n, 6), 0, t.index(4, size=2, negative=False, dtype=torch.int32)),
)
cases(
    overloads("gather"),
    lambda t: (t(t.n, 6), 1, t.index(t.n, 4, size=6, negative=False)),
    lambda t: (t(t.n, 6), -2, t.index(2, 6, size=2, negative=False)),
)
cases(overloads("take"), lambda t: (t(t.n, 6), t.index(5, size=12)))
cases(overloads("index.Tensor", "_unsafe_index.Tensor"), lambda t: (t(t.n, 6), [None, t.index(4, size=6)]), lambda t: (t(5, t.n, 6), [t.index(3, 1, size=5), None, t.index(4, size=6)]),
      lambda t: (t(t.n, 5, 6, 2), [None, t.index(3, 1, size=5), t.index(4, size=6)]))  # fmt: skip
cases(
    overloads("scatter.src"),
    lambda t: (t(t.n, 6), 1, t.permutation(6)[:4].expand(t.n, 4).contiguous(), t(t.n, 5)),
)
cases(
    overloads("scatter.value"),
    lambda t: (t(t.n, 6), 1, t.permutation(6)[:4].expand(t.n, 4).contiguous(), t.number(3)),
)
cases(overloads("scatter_add"), lambda t: (t(t.n, 6), 1, t.index(t.n, 9, size=6, negative=False), t(t.n, 9)))
cases(
    overloads("scatter.reduce"),
    lambda t: (t(t.n, 6), 1, t.index(t.n, 4, size=6, negative=False), t(t.n, 4), "add"),
)
cases(
    overloads("scatter.value_reduce"),
    lambda t: (t(t.n, 6), 1, t.index(t.n, 4, size=6, negative=False), t.number(2), "multiply"),
)
for _how in ("sum", "prod", "amax", "amin"):
    cases(
        overloads("scatter_reduce.two"),
        lambda t, h=_how: (t(t.n, 6), 1, t.index(t.n, 4, size=6, negative=False), t(t.n, 4), h),
    )
cases(overloads("index_put", "_unsafe_index_put"), lambda t: (t(t.n, 6), [None, t.permutation(6)[:4]], t(t.n, 4)), lambda t: (t(t.n, 6), [None, t.index(9, size=6)], t(1), True),
      lambda t: (t(5, t.n, 6), [t.permutation(5)[:3].unsqueeze(1), None, t.permutation(6)[:4]], t(3, 4, 1)),
      lambda t: (t(t.n, 6), [t.mask(t.n, 6)], t(1)))  # fmt: skip
cases(overloads("index_copy"), lambda t: (t(t.n, 6), 1, t.permutation(6)[:4], t(t.n, 4)))
cases(
    overloads("index_add"),
    lambda t: (t(t.n, 6), 1, t.index(9, size=6, negative=False), t(t.n, 9)),
    lambda t: (t(t.n, 6), 0, t.index(2, size=2, negative=False), t(2, 6), t.number(2)),
)
cases(overloads("index_fill.int_Scalar"), lambda t: (t(t.n, 6), 1, t.index(3, size=6), t.number(2)))
cases(
    overloads("slice_scatter"),
    lambda t: (t(t.n, 9), t(t.n, 3), 1, 1, 7, 2),
    lambda t: (t(t.n, 9), t(t.n, 2), 1, -2),
)
cases(overloads("select_scatter"), lambda t: (t(t.n, 9), t(t.n), 1, -2))
cases(overloads("copy"), lambda t: (t(t.n, 4), t(1, 4, dtype=torch.float32)))

cases(
    overloads("constant_pad_nd"),
    lambda t: (t(t.n, 3, 4), [1, 2, 0, 1], t.number(1)),
    lambda t: (t(t.n, 3, 4), [-1, 2]),
)
cases(
    overloads("pad"),
    lambda t: (t(t.n, 3, 4), [1, 2, 0, 1]),
    lambda t: (t(t.n, 3, 4), [1, 2], "constant", t.number(1)),
)
for _mode in ("reflect", "replicate", "circular"):
    cases(overloads("pad"), lambda t, m=_mode: (t(t.n, 3, 5), [1, 2], m))
cases(overloads("_pad_circular"), lambda t: (t(t.n, 3, 5), [1, 2]))
for _name in ("reflection", "replication"):
    cases(overloads(f"{_name}_pad1d"), lambda t: (t(t.n, 3, 5), [1, 2]))
    cases(overloads(f"{_name}_pad2d"), lambda t: (t(t.n, 3, 5, 4), [1, 2, 2, 1]))
    cases(overloads(f"{_name}_pad3d"), lambda t: (t(t.n, 2, 3, 5, 4), [1, 2, 2, 1, 1, 0]))

cases(overloads("zeros_like", "ones_like"), lambda t: (t(t.n, 4),))
cases(overloads("full_like"), lambda t: (t(t.n, 4), t.number(3)))
# The contents are torch's secret; shape and dtype are compared.
cases(overloads("empty_like"), lambda t: (t(t.n, 4),))
cases(overloads("new_empty"), lambda t: (t(2), [3, 4]))
cases(overloads("empty.memory_format"), lambda t: ([2, 3], t.dtype))
cases(overloads("new_zeros", "new_ones"), lambda t: (t(2), [3, 4]))
cases(overloads("new_full"), lambda t: (t(2), [3, 4], t.number(3)))
cases(overloads("zeros", "ones"), lambda t: ([2, 3], t.dtype))
cases(overloads("full"), lambda t: ([2, 3], t.number(3), t.dtype))
cases(overloads("scalar_tensor"), lambda t: (t.number(3), t.dtype))
cases(overloads("fill.Scalar"), lambda t: (t(t.n, 3), t.number(3)))
cases(overloads("fill.Tensor"), lambda t: (t(t.n, 3), t()))
cases(overloads("arange"), lambda t: (5, t.dtype))
cases(overloads("arange.start"), lambda t: (2, 7, t.dtype))
cases(overloads("arange.start_step"), lambda t: (2, 9, 3, t.dtype), lambda t: (1.0, 2.0, 0.25, torch.float32))
cases(overloads("linspace"), lambda t: (-1.0, 2.0, 7, t.dtype))
cases(overloads("eye"), lambda t: (4, t.dtype))
cases(overloads("eye.m"), lambda t: (4, 3, t.dtype))
cases(
    overloads("tril", "triu"), lambda t: (t(t.n, 4, 5),), lambda t: (t(4, 5), -1), lambda t: (t(t.n, t.n), 1)
)
cases(
    overloads("diag_embed"), lambda t: (t(t.n, 3),), lambda t: (t(t.n, 3), 1, 0, 2), lambda t: (t(t.n, 3), -1)
)

cases(
    overloads("cumsum", "cumprod"),
    lambda t: (t(t.n, 5), 1),
    lambda t: (t(t.n, 5), 0),
    lambda t: (t(t.n, 5), 1, torch.float64),
)
cases(overloads("sort"), lambda t: (t.distinct(t.n, 9), 1), lambda t: (t.distinct(t.n, 3), 0, True))
cases(overloads("sort.stable"), lambda t: (t(t.n, 9), True, 1, True), lambda t: (t(t.n, 9), True))
cases(overloads("argsort"), lambda t: (t.distinct(t.n, 9), 1))
cases(overloads("argsort.stable"), lambda t: (t(t.n, 9), True, 1), lambda t: (t(t.n, 9), True, 0, True))
cases(overloads("topk"), lambda t: (t.distinct(t.n, 9), 3), lambda t: (t.distinct(t.n, 9), 2, 1, False))
cases(overloads("kthvalue"), lambda t: (t.distinct(t.n, 9), 3), lambda t: (t.distinct(t.n, 9), 2, 1, True))
cases(overloads("histc"), lambda t: (t(t.n, 20), 4, -2, 3))
