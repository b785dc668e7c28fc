"""The process that measures: what differs by a bit is rejected, and what crashes takes nobody along."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
import tvm
import tvm_ffi
from torch import nn

from graphopt.codegen import find_target
from graphopt.codegen.tuning.kernel import Arranged, Kernel, arrange
from graphopt.codegen.tuning.measuring import Measuring
from graphopt.codegen.tuning.worker import Bench, serve
from tests.tuning.kernels import kernels_of

HERE = find_target("cpu")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    (found,) = (
        k
        for k in kernels_of(nn.Sequential(nn.Linear(24, 32), nn.GELU()), torch.zeros(8, 24), target=HERE)
        if "matmul" in k.name
    )
    return found


def test_every_choice_of_a_kernel_gives_the_same_bits(kernel: Kernel) -> None:
    bench = Bench(kernel.function, HERE)
    for name, choice in kernel.space.items():
        for option in choice.options:
            if option != choice.default:
                answer = bench.attempt({name: option}, 1)
                assert answer["status"] in ("measured", "invalid"), (name, option, answer)


def _spoilt(func: Any, target: Any, decisions: dict[str, int]) -> Arranged:
    """A schedule that is wrong in its constants wherever something is decided."""
    arranged = arrange(func, target, decisions)
    if not decisions:
        return arranged

    def wrong(number: Any) -> Any:
        return tvm.tirx.FloatImm(number.ty.dtype, 1.001 * number.value)

    spoilt = tvm_ffi.structural_map(arranged.function, (tvm.tirx.FloatImm, wrong))
    return arranged._replace(function=spoilt)


def test_a_planted_wrong_schedule_is_rejected(kernel: Kernel) -> None:
    name, choice = next(iter(kernel.space.items()))
    other = {name: next(o for o in choice.options if o != choice.default)}
    assert Bench(kernel.function, HERE).attempt(other, 1)["status"] in ("measured", "invalid")
    answer = Bench(kernel.function, HERE, _spoilt).attempt({"unroll": 2}, 1)
    assert answer["status"] == "wrong" and "differ" in answer["reason"] and "microseconds" not in answer


def test_answers_come_as_lines_of_json(kernel: Kernel) -> None:
    func = tvm.ir.save_json(tvm.IRModule({"main": kernel.function}))
    requests = [
        {"do": "open", "function": func, "target": HERE.to_dict(), "rounds": 1},
        {"do": "try", "decisions": {"unroll": 2}, "rounds": 1},
        {"do": "try", "decisions": {"unroll": 3}, "rounds": 1},
        {"do": "open", "function": "nonsense", "target": HERE.to_dict(), "rounds": 1},
    ]
    answers = io.StringIO()
    serve([json.dumps(r) for r in requests], answers)
    default, tried, invalid, failed = map(json.loads, answers.getvalue().splitlines())
    assert default["microseconds"] > 0
    assert tried["status"] == "measured" and tried["microseconds"] > 0
    assert invalid["status"] == "invalid" and "unroll = 3" in invalid["reason"]
    assert failed["status"] == "failed"


@pytest.mark.parametrize("module, reason", (("crashing", "crashed"), ("sleeping", "longer than")))
def test_a_process_that_dies_or_hangs_is_replaced(
    kernel: Kernel, module: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt.codegen.tuning.measuring.TRY_SECONDS", 0.3)
    with Measuring(HERE, f"tests.tuning.{module}_worker") as measuring:
        for _ in range(2):
            assert measuring.default(kernel, 1) == {"microseconds": 1.0}
            answer = measuring.attempt(kernel, {"unroll": 2}, 1)
            assert answer["status"] == "failed" and reason in answer["reason"]


def test_the_real_process_measures(kernel: Kernel) -> None:
    with Measuring(HERE) as measuring:
        answer = measuring.attempt(kernel, {"unroll": 2}, 2)
    assert answer["status"] == "measured", answer
    assert 0 < answer["microseconds"] < 1e5 and 0 < answer["default_microseconds"] < 1e5
