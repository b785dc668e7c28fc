# ruff: noqa: E501 - a table, one line a case
"""Samples of convolutions, pools, resizes, reductions, products and norms."""

from __future__ import annotations

import torch
from samples import Maker, cases, overloads

cases(overloads("conv1d"), lambda t: (t(t.n, 4, 9), t(6, 2, 3), t(6), [2], [1], [1], 2))
cases(overloads("conv2d"), lambda t: (t(t.n, 3, 8, 9), t(4, 3, 3, 3), t(4), [2, 1], [1, 1], [1, 1], 1),
      lambda t: (t(t.n, 4, 6, 6), t(4, 1, 3, 3), None, [1], [2], [2], 4), lambda t: (t(3, 6, 6), t(4, 3, 1, 1), t(4)),
      lambda t: (t(2, 3, t.n, t.n), t(4, 3, 3, 3), t(4), [2, 2], [1, 1]))  # fmt: skip
cases(overloads("conv3d"), lambda t: (t(t.n, 2, 4, 5, 5), t(3, 2, 2, 3, 3), t(3), [1], [1, 0, 1]))
cases(overloads("conv1d.padding"), lambda t: (t(t.n, 4, 9), t(6, 4, 4), t(6), [1], "same"))
cases(overloads("conv2d.padding"), lambda t: (t(t.n, 3, 8, 9), t(4, 3, 3, 2), t(4), [1], "same", [2]),
      lambda t: (t(t.n, 3, 8, 9), t(4, 3, 3, 3), t(4), [1], "valid"))  # fmt: skip
cases(overloads("conv3d.padding"), lambda t: (t(t.n, 2, 4, 5, 5), t(3, 2, 2, 3, 3), t(3), [1], "same"))
cases(overloads("convolution"), lambda t: (t(t.n, 3, 8, 8), t(4, 3, 3, 3), t(4), [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
      lambda t: (t(t.n, 4, 5, 5), t(4, 2, 3, 3), t(4), [2, 2], [1, 1], [1, 1], True, [1, 1], 2))  # fmt: skip
cases(overloads("conv_transpose1d"), lambda t: (t(t.n, 4, 7), t(4, 3, 4), t(3), [3], [1], [2]))
cases(overloads("conv_transpose2d.input"), lambda t: (t(t.n, 4, 5, 6), t(4, 3, 2, 2), t(3), [2, 2]),
      lambda t: (t(t.n, 4, 5, 6), t(4, 3, 3, 3), t(6), [2, 2], [1, 1], [1, 0], 2),
      lambda t: (t(t.n, 4, 5, 6), t(4, 3, 3, 2), None, [2, 1], [1, 0], [0, 0], 1, [2, 2]),
      lambda t: (t(1, 2, t.n, 4), t(2, 2, 2, 2), t(2), [2, 2]), lambda t: (t(4, 5, 6), t(4, 3, 2, 2)))  # fmt: skip
cases(
    overloads("conv_transpose3d.input"),
    lambda t: (t(t.n, 2, 3, 3, 3), t(2, 2, 2, 3, 2), t(2), [2], [0, 1, 0]),
)

cases(overloads("max_pool1d"), lambda t: (t(t.n, 3, 9), [3], [2], [1]))
cases(overloads("max_pool2d"), lambda t: (t(t.n, 3, 8, 9), [3, 3], [2, 2], [1, 1]), lambda t: (t(3, 8, 9), [2]),
      lambda t: (t(t.n, 3, 8, 9), [3, 2], [2, 2], [1, 0], [2, 1], True))  # fmt: skip
cases(overloads("max_pool3d"), lambda t: (t(t.n, 2, 5, 5, 5), [2], [2], [1], [1], True))
cases(overloads("max_pool2d_with_indices"), lambda t: (t.distinct(2, 3, 5, 5), [3, 3], [2, 2], [1, 1]))
cases(overloads("avg_pool1d"), lambda t: (t(t.n, 3, 9), [3], [2], [1]))
cases(overloads("avg_pool2d"), lambda t: (t(t.n, 3, 8, 9), [3, 3], [2, 2], [1, 1]), lambda t: (t(3, 8, 9), [2]),
      lambda t: (t(t.n, 3, 8, 9), [3, 2], [2, 2], [1, 1], True, False),
      lambda t: (t(t.n, 3, 8, 9), [3, 2], [3, 2], [1, 1], True, True), lambda t: (t(t.n, 3, 8, 9), [3], [1], [1], False, True, 5))  # fmt: skip
cases(overloads("avg_pool3d"), lambda t: (t(t.n, 2, 5, 5, 5), [2], [2], [1]))
cases(overloads("adaptive_avg_pool1d"), lambda t: (t(t.n, 3, 8), [3]), lambda t: (t(2, 3, t.n), [1]))
cases(overloads("adaptive_avg_pool2d", "_adaptive_avg_pool2d"), lambda t: (t(t.n, 3, 8, 9), [1, 1]), lambda t: (t(t.n, 3, 8, 9), [4, 5]),
      lambda t: (t(2, 3, t.n, 6), [3, 6]))  # fmt: skip
cases(overloads("adaptive_avg_pool3d", "_adaptive_avg_pool3d"), lambda t: (t(t.n, 2, 4, 5, 6), [2, 3, 1]))

for _rank, _spatial in ((1, (3,)), (2, (3, 5)), (3, (3, 2, 4))):
    _size = [4, 7, 6][:_rank]
    for _prefix in ("upsample_nearest", "_upsample_nearest_exact"):
        cases(overloads(f"{_prefix}{_rank}d.vec"), lambda t, s=_spatial, z=_size: (t(t.n, 2, *s), z, None),
              lambda t, s=_spatial: (t(t.n, 2, *s), None, [1.5] * len(s)))  # fmt: skip
        cases(overloads(f"{_prefix}{_rank}d"), lambda t, s=_spatial, z=_size: (t(t.n, 2, *s), z))
for _name, _spatial in (
    ("upsample_linear1d", (3,)),
    ("upsample_bilinear2d", (3, 5)),
    ("upsample_trilinear3d", (3, 2, 4)),
    ("upsample_bicubic2d", (3, 5)),
):
    _size = [4, 7, 6][: len(_spatial)]
    for _aligned in (False, True):
        cases(overloads(f"{_name}.vec"), lambda t, s=_spatial, z=_size, a=_aligned: (t(t.n, 2, *s), z, a, None),
              lambda t, s=_spatial, a=_aligned: (t(t.n, 2, *s), None, a, [1.7] * len(s)))  # fmt: skip
    cases(overloads(_name), lambda t, s=_spatial, z=_size: (t(t.n, 2, *s), z, False))

cases(overloads("sum", "mean", "prod", "max", "min", "any", "all"), lambda t: (t(t.n, 5),), lambda t: (t(),))
cases(overloads("sum.dim_IntList", "mean.dim"), lambda t: (t(t.n, 3, 4), [1, -1], True), lambda t: (t(t.n, 3, 4), [0]),
      lambda t: (t(t.n, 3), None))  # fmt: skip
cases(overloads("sum.dim_IntList"), lambda t: (t(t.n, 3), [0], False, torch.float64))
cases(overloads("prod.dim_int"), lambda t: (t(t.n, 3), 1, True), lambda t: (t(t.n, 3), 0))
cases(
    overloads("amax", "amin"),
    lambda t: (t(t.n, 3, 4), [-1], True),
    lambda t: (t(t.n, 3, 4), [0, 2]),
    lambda t: (t(t.n, 3),),
)
cases(overloads("any.dim", "all.dim"), lambda t: (t(t.n, 3), 1), lambda t: (t(t.n, 3), 0, True))
cases(overloads("any.dims", "all.dims"), lambda t: (t(t.n, 3, 2), [0, 2]))
cases(overloads("max.dim", "min.dim"), lambda t: (t(t.n, 9), 1, True), lambda t: (t.distinct(t.n, 9), 0))
cases(
    overloads("argmax", "argmin"),
    lambda t: (t(t.n, 9), 1),
    lambda t: (t(t.n, 9),),
    lambda t: (t(t.n, 9), -2, True),
)


def _nan_wins(t: Maker) -> tuple[torch.Tensor]:
    x = t(t.n, 5)
    if t.dtype.is_floating_point:
        x[0, 2] = float("nan")
    return (x,)


def _long_rows(t: Maker) -> tuple[torch.Tensor]:
    """Rows of several vectors and a remainder, with equals."""
    x = t(t.n, 3, 75)
    x[0, 1, 70] = x[0, 1, 5] = x[0, 1].max()
    return (x,)


cases(overloads("amax"), lambda t: (*_nan_wins(t), [1]))
cases(overloads("max.dim", "min.dim", "argmax", "argmin"), lambda t: (*_nan_wins(t), 1))
cases(overloads("max.dim", "min.dim", "argmax", "argmin"), lambda t: (*_long_rows(t), -1))
cases(overloads("argmax", "argmin"), lambda t: _long_rows(t))
cases(overloads("maximum"), lambda t: (*_nan_wins(t), t(t.n, 5)), lambda t: (t(t.n, 5), *_nan_wins(t)))
cases(overloads("clamp"), lambda t: (*_nan_wins(t), t.number(-1), t.number(1)))
cases(
    overloads("var.correction", "std.correction"), lambda t: (t(t.n, 5), [1]), lambda t: (t(t.n, 5), [0, 1])
)
cases(
    overloads("var.dim", "std.dim"), lambda t: (t(t.n, 5), [1], False, True), lambda t: (t(t.n, 5), [0], True)
)
cases(overloads("logsumexp"), lambda t: (t(t.n, 5), [1], True), lambda t: (t(t.n, 5), [0, 1]))
for _order in (2, 1, 3.0, float("inf"), 0):
    cases(overloads("linalg_vector_norm"), lambda t, o=_order: (t(t.n, 5), o, [1], True))
cases(overloads("norm.ScalarOpt_dim"), lambda t: (t(t.n, 5), None, [1], True), lambda t: (t(t.n, 5), 1, [0]))

cases(overloads("mm"), lambda t: (t(t.n, 6), t(6, 5)))
cases(overloads("_int_mm"), lambda t: (t(32, 16), t(16, 8)))
cases(overloads("bmm"), lambda t: (t(t.n, 3, 6), t(t.n, 6, 5)))
cases(overloads("mv"), lambda t: (t(t.n, 6), t(6)))
cases(overloads("dot"), lambda t: (t(t.n), t(t.n)))
cases(overloads("matmul"), lambda t: (t(t.n, 3, 6), t(6, 5)), lambda t: (t(t.n, 2, 3, 6), t(2, 6, 5)), lambda t: (t(6), t(t.n, 6, 5)),
      lambda t: (t(t.n, 3, 6), t(6)), lambda t: (t(6), t(6)))  # fmt: skip
cases(
    overloads("linear"),
    lambda t: (t(t.n, 3, 6), t(5, 6), t(5)),
    lambda t: (t(t.n, 6), t(5, 6)),
    lambda t: (t(6), t(5, 6)),
)
cases(
    overloads("addmm"),
    lambda t: (t(5), t(t.n, 6), t(6, 5)),
    lambda t: (t(t.n, 5), t(t.n, 6), t(6, 5), t.number(2), t.number(3)),
)
cases(overloads("addmv"), lambda t: (t(t.n), t(t.n, 6), t(6)))
cases(overloads("baddbmm"), lambda t: (t(t.n, 3, 5), t(t.n, 3, 6), t(t.n, 6, 5), t.number(1), t.number(2)))
cases(overloads("addbmm"), lambda t: (t(3, 5), t(t.n, 3, 6), t(t.n, 6, 5)))
cases(overloads("outer", "ger"), lambda t: (t(t.n), t(5)))

cases(overloads("batch_norm"), lambda t: (t(t.n, 3, 4, 4), t(3), t(3), t(3), t.positive(3), False, 0.1, 1e-5, False),
      lambda t: (t(t.n, 3), None, None, t(3), t.positive(3), False, 0.1, 1e-3, False))  # fmt: skip
cases(
    overloads("_native_batch_norm_legit_no_training"),
    lambda t: (t(t.n, 3, 4, 4), t(3), t(3), t(3), t.positive(3), 0.1, 1e-5),
)
cases(overloads("layer_norm"), lambda t: (t(t.n, 3, 8), [8], t(8), t(8)), lambda t: (t(t.n, 3, 8), [3, 8], t(3, 8), None, 1e-3),
      lambda t: (t(t.n, 8), [8]))  # fmt: skip
cases(
    overloads("group_norm"),
    lambda t: (t(t.n, 6, 4, 3), 3, t(6), t(6)),
    lambda t: (t(t.n, 6, 5), 2),
    lambda t: (t(t.n, 6), 2),
)
cases(overloads("instance_norm"), lambda t: (t(t.n, 3, 4, 4), None, None, None, None, True, 0.1, 1e-5, False),
      lambda t: (t(t.n, 3, 4, 4), t(3), t(3), t(3), t.positive(3), False, 0.1, 1e-5, False))  # fmt: skip
cases(overloads("rms_norm"), lambda t: (t(t.n, 3, 8), [8], t(8), 1e-6), lambda t: (t(t.n, 8), [8]))
for _name in ("softmax.int", "log_softmax.int"):
    cases(overloads(_name), lambda t: (t(t.n, 3, 6), -1, None if t.dtype.is_floating_point else torch.float32),
          lambda t: (t(t.n, 6), 0, torch.float64))  # fmt: skip
cases(overloads("_softmax", "_log_softmax"), lambda t: (t(t.n, 6), 1, False))


def _qkv(t: Maker) -> tuple[torch.Tensor, ...]:
    return t(t.n, 4, 5, 8), t(t.n, 4, 6, 8), t(t.n, 4, 6, 8)


cases(overloads("scaled_dot_product_attention"), _qkv, lambda t: (*_qkv(t), t(5, 6)), lambda t: (*_qkv(t), t.mask(t.n, 1, 5, 6)),
      lambda t: (t(2, 2, t.n, 8), t(2, 2, t.n, 8), t(2, 2, t.n, 8), None, 0.0, True, 0.3),
      lambda t: (t(2, 4, t.n, 8), t(2, 2, t.n, 8), t(2, 2, t.n, 8), None, 0.0, True, None, True),
      lambda t: (t(2, 5, 8), t(2, 6, 8), t(2, 6, 8), torch.tensor([[True] * 6] * 4 + [[False] * 6])))  # fmt: skip


def _recurrent(t: Maker, gates: int, both: bool) -> tuple[object, ...]:
    """States and weights of one layer, and its options but the last."""
    sides = 2 if both else 1
    states = [t(sides, t.n, 4) for _ in range(2 if gates == 4 else 1)]
    weights = [
        w for _ in range(sides) for w in (t(gates * 4, 3), t(gates * 4, 4), t(gates * 4), t(gates * 4))
    ]
    return states if gates == 4 else states[0], weights, True, 1, 0.0, False, both


for _both in (False, True):
    cases(overloads("lstm.input"), lambda t, b=_both: (t(5, t.n, 3), *_recurrent(t, 4, b), False))
    cases(overloads("gru.input"), lambda t, b=_both: (t(t.n, 5, 3), *_recurrent(t, 3, b), True))
    cases(
        overloads("rnn_tanh.input", "rnn_relu.input"),
        lambda t, b=_both: (t(5, t.n, 3), *_recurrent(t, 1, b), False),
    )
