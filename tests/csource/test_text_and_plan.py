"""Numbers and names as C has them; memory that no two living tensors share."""

from __future__ import annotations

import random

import pytest

from graphopt.codegen.csource.plan import ALIGNMENT, Tensor, _overlap, _pack, _share_slots
from graphopt.codegen.csource.text import Names, number
from graphopt.codegen.csource.values import DType

_F32, _F64, _I32, _I64 = (DType(k, b, 1) for k, b in (("float", 32), ("float", 64), ("int", 32), ("int", 64)))


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, _F32, "0.1f"),
        (0.1, _F64, "0.1"),
        (-0.0, _F32, "-0.0f"),
        (1e30, _F32, "1.0e+30f"),
        (float("-inf"), _F32, "-INFINITY"),
        (float("nan"), _F64, "NAN"),
        (7, _I32, "7"),
        (-(2**31), _I32, "(-2147483647 - 1)"),
        (2**40, _I64, "INT64_C(1099511627776)"),
        (-(2**63), _I64, "(-INT64_C(9223372036854775807) - 1)"),
        (2**32 - 1, DType("uint", 32, 1), "4294967295u"),
        (2**63, DType("uint", 64, 1), "UINT64_C(9223372036854775808)"),
    ],
)
def test_numbers(value: float, dtype: DType, text: str) -> None:
    assert number(value, dtype) == text


def test_names() -> None:
    names = Names(["base"])
    found = [
        names.new(n) for n in ("x", "x", "x.y", "exp", "expf", "3d", "int", "base", "f32x4", "größe", "")
    ]
    assert found == ["x", "x_1", "x_y", "exp_", "expf_", "x3d", "int_", "base_1", "f32x4_", "gr__e", "x_2"]


def _tensors(seed: int) -> list[Tensor]:
    generator = random.Random(seed)
    tensors = []
    for _ in range(60):
        first = generator.randrange(40)
        tensor = Tensor("workspace", _F32, [generator.choice([1, 7, 64, 1000])], first=first)
        tensor.last = first + generator.randrange(8)
        tensors.append(tensor)
    return sorted(tensors, key=lambda t: t.first)


@pytest.mark.parametrize("seed", range(5))
def test_living_tensors_do_not_share_memory(seed: int) -> None:
    tensors = _tensors(seed)
    end = _pack(tensors)
    sizes = {t: t.static_bytes or 0 for t in tensors}
    assert all(t.offset % ALIGNMENT == 0 and t.offset + sizes[t] <= end for t in tensors)
    assert end < sum(sizes.values())
    for a in tensors:
        for b in tensors:
            if a is not b and _overlap(a, b):
                assert a.offset + sizes[a] <= b.offset or b.offset + sizes[b] <= a.offset


@pytest.mark.parametrize("seed", range(5))
def test_living_tensors_do_not_share_a_slot(seed: int) -> None:
    tensors = _tensors(seed)
    slots = _share_slots(tensors)
    assert sorted(map(id, tensors)) == sorted(id(t) for slot in slots for t in slot)
    assert len(slots) < len(tensors)
    for slot in slots:
        assert not any(_overlap(a, b) for a in slot for b in slot if a is not b)
