"""Operands that the ops do not take: the error names the op, the operand and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphopt._torch import FakeTensorMode
from graphopt.dialect import registry
from graphopt.errors import InputError


def _x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


Q, KV = _x(2, 4, 3, 8), _x(2, 2, 3, 8)

REJECTED = [
    ("rms_norm_counted", (_x(2, 8), _x(7), 1e-6, 8), r"weight has shape \(7,\), the last .* of x is 8"),
    ("rms_norm_counted", (_x(2, 8), _x(1, 8), 1e-6, 8), "weight has shape"),
    ("rms_norm_counted", (_x(2, 8), None, 1e-6, 0), "count is 0"),
    ("rms_norm_counted", (_x(2, 8), None, -1.0, 8), "eps is -1.0"),
    ("rms_norm_counted", (_x(), None, 1e-6, 8), "no dimension"),
    ("rms_norm_counted", (_x(2, 8, dtype=torch.int64), None, 1e-6, 8), "x is torch.int64"),
    ("rms_norm_counted", (_x(2, 8), _x(8, dtype=torch.float64), 1e-6, 8), "weight is torch.float64 but x"),
    ("layer_norm_counted", (_x(2, 8), _x(8), _x(9), 1e-6, 8), r"bias has shape \(9,\)"),
    ("layer_norm_counted", (_x(2, 8), None, _x(8, dtype=torch.float16), 1e-6, 8), "bias is torch.float16"),
    ("rotary_embedding", (_x(2, 7), _x(2, 7), _x(2, 7), False, 0), "7 channels cannot be rotated"),
    ("rotary_embedding", (_x(2, 8), _x(2, 8), _x(2, 8), False, 10), "rotary_dim is 10, x has 8"),
    ("rotary_embedding", (_x(2, 8), _x(2, 8), _x(2, 8), False, -2), "-2 channels"),
    ("rotary_embedding", (_x(2, 8), _x(2, 6), _x(2, 6), False, 0), "cos has 6 channels"),
    ("rotary_embedding", (_x(2, 8), _x(2, 8), _x(2, 4), False, 0), "sin"),
    ("rotary_embedding", (_x(2, 8), _x(3, 8), _x(3, 8), False, 0), "cos of shape .* does not broadcast"),
    ("rotary_embedding", (_x(8), _x(2, 8), _x(2, 8), False, 0), "does not broadcast"),
    ("hard_swish", (_x(2), 3.0, -1.0, 6.0), "threshold is -1.0"),
    ("hard_swish", (_x(2), 3.0, 6.0, 0.0), "scale is 0"),
    ("hard_swish", (_x(2, dtype=torch.int8), 3.0, 6.0, 6.0), "x is torch.int8"),
    ("hard_sigmoid", (_x(2, dtype=torch.bool), 0.2, 0.5), "x is torch.bool"),
    ("silu_mul", (_x(2, 3), _x(3)), r"gate has shape \(2, 3\), up \(3,\)"),
    ("silu_mul", (_x(2), _x(2, dtype=torch.float64)), "up is torch.float64 but gate"),
    ("gelu_mul", (_x(2), _x(2), "erf"), "approximate is 'erf'"),
    ("attention", (Q[0], KV, KV, None, 1.0, False, 0.0), "query has shape"),
    ("attention", (_x(2, 3, 3, 8), KV, KV, None, 1.0, False, 0.0), "3 query heads are not a multiple of 2"),
    ("attention", (Q, _x(2, 2, 3, 4), KV, None, 1.0, False, 0.0), "query has head size 8, key 4"),
    ("attention", (Q, KV, _x(2, 2, 5, 8), None, 1.0, False, 0.0), "value length differ"),
    ("attention", (Q, KV, KV, _x(4, 3), 1.0, False, 0.0), "mask of shape .* does not broadcast"),
    ("attention", (Q, KV, KV, _x(3, 3, dtype=torch.int64), 1.0, False, 0.0), "mask is torch.int64"),
    ("attention", (Q, KV, KV, None, 1.0, False, -1.0), "softcap is -1.0"),
]


@pytest.mark.parametrize("mode", ["real", "fake"])
@pytest.mark.parametrize(("name", "args", "message"), REJECTED)
def test_rejected_operands(name: str, args: tuple[Any, ...], message: str, mode: str) -> None:
    overload = registry.get(name).overload
    if mode == "fake":
        fake = FakeTensorMode()
        args = tuple(fake.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args)
    with pytest.raises(InputError, match=message) as caught:
        overload(*args)
    assert caught.value.code == "GO-3006"
    assert caught.value.message.startswith(f"graphopt::{name}: ")


@pytest.mark.parametrize("op", registry.all_ops(), ids=lambda op: op.name)
def test_every_op_rejects_something(op) -> None:
    assert op.name in {name for name, *_ in REJECTED}
