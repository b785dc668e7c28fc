"""Values of index expressions for many threads at once."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx
from tvm.ir.prim import expr as prim

from graphopt.codegen.emulate.evaluate import Unknown, evaluate, possible


def test_floor_and_machine_division_round_as_tvm_does() -> None:
    x = tirx.Var("x", "int32")
    three = tirx.IntImm("int32", 3)
    values = {x: np.array([-4, -3, -1, 0, 2, 7])}
    assert evaluate(prim.FloorDiv(x, three), values).tolist() == [-2, -1, -1, 0, 0, 2]
    assert evaluate(prim.FloorMod(x, three), values).tolist() == [2, 0, 2, 0, 2, 1]
    assert evaluate(prim.Div(x, three), values).tolist() == [-1, -1, 0, 0, 0, 2]
    assert evaluate(prim.Mod(x, three), values).tolist() == [-1, 0, -1, 0, 2, 1]


def test_what_is_not_known() -> None:
    x, n = tirx.Var("x", "int32"), tirx.Var("n", "int32")
    four = tirx.IntImm("int32", 4)
    values = {x: np.arange(6)}
    with pytest.raises(Unknown):
        evaluate(x + n, values)
    assert possible(x < n, values) is True
    assert possible(prim.And(x < four, x < n), values).tolist() == [True] * 4 + [False] * 2
    assert possible(prim.Not(x < n), values) is True
