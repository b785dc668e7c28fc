"""Walks the converter table: every converter, in every dtype that it claims, against torch.

Calls are packed into programs of many operators, which are compiled once.  Floating-point results go
through the noise rule of :mod:`graphopt.verification`; everything else must be equal.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # samples and packing stand beside this file

import samples_movement  # noqa: E402, F401
import samples_pointwise  # noqa: E402, F401
import samples_structure  # noqa: E402, F401
from packing import SIZE, Call, Compiled, pack, runs_in_torch, tensors_of  # noqa: E402
from samples import SAMPLES  # noqa: E402

from graphopt.codegen.relax import converter_table  # noqa: E402
from graphopt.codegen.relax.dtypes import ALL  # noqa: E402
from graphopt.verification import verify  # noqa: E402

TABLE = converter_table()
ATEN = [t for t in TABLE if t.namespace != "graphopt"]
"""The dialect's own walk checks its Relax forms."""

UNDEFINED = {"empty", "empty_like", "new_empty"}
"""Operators whose results hold whatever was in memory."""

_PACK = 48
_SYMBOLIC = [torch.float32, torch.int64]
"""Walked with symbolic sizes, where all other axes are static: the static paths are in there."""

_STATIC = sorted(ALL - set(_SYMBOLIC), key=str)
_THOROUGH = {*_SYMBOLIC, torch.float16, torch.bool}
"""Walked with every sample; the other dtypes take each converter's first, which costs half."""


def calls_of(dtype: torch.dtype) -> list[Call]:
    return [
        Call(target, sample, seed)
        for target in ATEN
        if dtype in TABLE[target].dtypes and target._schema.name.split("::")[1] not in UNDEFINED
        for seed, sample in enumerate(SAMPLES.get(target, [])[: None if dtype in _THOROUGH else 1])
        if runs_in_torch(Call(target, sample, seed), dtype)
    ]


def packs(calls: list[Call]) -> Iterator[list[Call]]:
    iterator = iter(calls)
    while batch := list(itertools.islice(iterator, _PACK)):
        yield batch


def test_every_converter_has_a_sample() -> None:
    assert [str(t) for t in ATEN if t not in SAMPLES] == []


def test_every_sample_has_a_converter() -> None:
    assert [str(t) for t in SAMPLES if t not in TABLE] == []


def test_every_sample_runs_in_torch_in_some_dtype() -> None:
    """A sample that torch refuses in every dtype would never be compared."""
    refused = [
        f"{target} #{seed}"
        for target, samples in SAMPLES.items()
        for seed, sample in enumerate(samples)
        if not any(runs_in_torch(Call(target, sample, seed), d) for d in TABLE[target].dtypes)
    ]
    assert refused == []


def check(calls: list[Call], dtype: torch.dtype, *, symbolic: bool) -> None:
    program = pack(calls, dtype, symbolic=symbolic)
    compiled = Compiled(program)
    owners = [f"{c.target} #{c.seed}" for c in calls for _ in c.run(dtype, SIZE)]
    for size in (SIZE, 3) if symbolic else (SIZE,):
        inputs = tuple(x for c in calls for x in tensors_of(c.operands(dtype, size)))
        report = verify(program, compiled, inputs=inputs)
        names = [s.name for s in program.signature.outputs]
        wrong = {
            f"{owners[names.index(o.name)]} with n={size}: {o.problem}"
            for d in report.draws
            for o in d.outputs
            if not o.ok
        }
        assert wrong == set(), "\n".join(sorted(wrong))


@pytest.mark.parametrize("dtype", _STATIC, ids=str)
def test_converters_agree_with_torch(dtype: torch.dtype) -> None:
    for batch in packs(calls_of(dtype)):
        check(batch, dtype, symbolic=False)


@pytest.mark.parametrize("dtype", _SYMBOLIC, ids=str)
def test_converters_agree_with_torch_in_symbolic_shapes(dtype: torch.dtype) -> None:
    for batch in packs(calls_of(dtype)):
        check(batch, dtype, symbolic=True)


def test_undefined_contents_have_the_right_type() -> None:
    targets = [t for t in ATEN if t._schema.name.split("::")[1] in UNDEFINED]
    calls = [Call(t, sample, 0) for t in targets for sample in SAMPLES[t]]
    program = pack(calls, torch.float32, symbolic=False)
    results = Compiled(program)(*(x for c in calls for x in tensors_of(c.operands(torch.float32, SIZE))))
    expected = [(tuple(y.shape), y.dtype) for c in calls for y in c.run(torch.float32, SIZE)]
    assert len(calls) == len(UNDEFINED)
    assert [(tuple(y.shape), y.dtype) for y in results] == expected
