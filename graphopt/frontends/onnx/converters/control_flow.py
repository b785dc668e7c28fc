"""Control flow: branches and loops that are decided while importing."""

from __future__ import annotations

from typing import Any

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, VALUE, op
from graphopt.frontends.onnx.values import HostValue, Value

_LONGEST_LOOP = 4096


@op("If", since=1, host=(0,), ignores=("then_branch", "else_branch"))
def conditional(call: Call, condition: HostValue) -> tuple[Value, ...]:
    """Evaluates the branch that a condition known at import time selects.

    A condition on dynamic sizes is asked for the example sizes; the answer becomes a guard, which
    restricts the dimensions it involves.
    """
    branch = "then_branch" if bool(condition.number()) else "else_branch"
    return tuple(call.run(call.graph(branch)))


@op("Loop", since=1, default=VALUE, kinds={0: HOST, 1: HOST})
def loop(call: Call, count: HostValue | None = None, start: HostValue | None = None, *state: Value) -> Any:
    """Unrolls a loop with a known trip count and a condition that stays known."""
    import torch

    from graphopt.frontends.onnx.values import Constant

    limit = _LONGEST_LOOP if count is None else count.number()
    if not isinstance(limit, int):
        raise call.error("runs a number of times that depends on the inputs")
    if count is not None and limit > _LONGEST_LOOP:
        raise call.error(f"runs {limit} times; at most {_LONGEST_LOOP} are unrolled")
    body = call.graph("body")
    going = True if start is None else bool(start.number())
    carried = list(state)
    collected: list[list[torch.Tensor]] = []
    evaluator = call._evaluator
    step = 0
    while going and step < limit:
        index = HostValue.of(step, torch.int64)
        results = call.run(body, [index, HostValue.of(True, torch.bool), *carried])
        keep_on, carried, scanned = results[0], results[1 : 1 + len(state)], results[1 + len(state) :]
        collected.append([evaluator.as_tensor(v, "scan output") for v in scanned])
        flag = keep_on.host() if isinstance(keep_on, Constant) else keep_on
        if not isinstance(flag, HostValue):
            raise call.error("ends when data says so; only known conditions are supported")
        going = bool(flag.number())
        step += 1
    scans = [torch.stack(list(column)) for column in zip(*collected, strict=True)]
    if not collected and len(body.outputs) > 1 + len(state):
        raise call.error("runs zero times but collects outputs")
    return (*carried, *scans)
