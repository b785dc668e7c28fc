"""Bisection finds the pass that broke a pipeline, in few checks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from graphopt import Program, bisect
from tests.passmanager import planted
from tests.passmanager.test_manager import Both


def _pipeline(culprit: int) -> list[Any]:
    """Eight passes that change the program, one of them wrongly."""
    passes: list[Any] = [planted.SwapsWeight(1.0) for _ in range(8)]
    passes[0] = planted.ReluAsClamp()
    passes[culprit] = planted.Double(3.0)
    return passes


@pytest.mark.parametrize("culprit", [0, 3, 7])
def test_the_culprit_of_eight(program: Program, culprit: int) -> None:
    found = bisect(program, _pipeline(culprit), draws=1)
    assert (found.index, found.culprit) == (culprit, "test-double{factor=3.0}")
    assert found.checks <= math.log2(8) + 1
    assert found.error is not None and found.error.code == "GO-5000"
    assert found.before is not None and "mul" not in str(found.before)


def test_a_check_of_the_users(program: Program) -> None:
    found = bisect(program, _pipeline(5), check=lambda original, candidate: "mul" not in str(candidate))
    assert found.index == 5


def test_nothing_is_wrong(program: Program) -> None:
    found = bisect(program, "test-relu-as-clamp,test-nothing")
    assert (found.culprit, found.index, found.checks) == (None, -1, 1)


def test_a_pass_that_raises(program: Program) -> None:
    found = bisect(program, "test-relu-as-clamp,test-raises,test-nothing", draws=1)
    assert (found.index, found.culprit) == (1, "test-raises")
    assert found.error is not None and "KeyError" in found.error.message
    assert bisect(program, "test-raises").index == 0


def test_what_was_wrong_before_the_pass_that_raises(program: Program) -> None:
    assert bisect(program, "test-nothing,test-double,test-raises", draws=1).culprit == "test-double"


def test_parts_of_composites_count_one_by_one(program: Program) -> None:
    pipeline = [planted.ReluAsClamp(), Both(planted.Nothing(), planted.Double(), planted.Nothing())]
    assert bisect(program, pipeline, draws=1).index == 2


def test_broken_invariants_count(program: Program) -> None:
    found = bisect(program, [planted.Nothing(), planted.Breaks("constants")])
    assert found.index == 1 and found.error is not None and found.error.code == "GO-4001"
