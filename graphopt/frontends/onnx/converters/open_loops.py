"""Loops whose number of steps sizes or data decide: ``torch.while_loop`` and ``torch``'s ``scan``.

Their state keeps its shape and dtype from step to step.  ONNX allows a state to grow; such a loop has no
form in torch unless it is unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graphopt._torch import scan_op, statically_known_true, while_loop_op
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.values import Constant, HostValue, Value

_LARGEST_CAPACITY = 1 << 16
"""Steps for whose collected outputs a loop that data ends reserves memory."""


def open_loop(call: Call, count: Value, start: Value, state: list[Value]) -> tuple[Value, ...]:
    """A Loop that stays one.

    Collected outputs need to know how many there will be: the number of steps is one that data decides if the
    condition does, and then the largest number has to be known while importing.
    """
    body = call.graph("body")
    carried = _tensors(call, state)
    region = call.region([body])

    def step(index: torch.Tensor, *states: torch.Tensor) -> list[Value]:
        return call.run(body, [index, HostValue.of(True, torch.bool), *states])

    def tensors_of(keep_on: Value, *given: Value) -> list[torch.Tensor]:
        return [call.as_tensor(keep_on, "condition").reshape(()), *_tensors(call, given)]

    def results(index: torch.Tensor, *states: torch.Tensor) -> list[torch.Tensor]:
        return tensors_of(*step(index, *states))

    first = torch.zeros((), dtype=torch.int64)
    tried = region.attempt(lambda: step(first, *carried))
    keep_on = tried[0].host() if isinstance(tried[0], Constant) else tried[0]
    counted = isinstance(keep_on, HostValue) and bool(keep_on.number())
    known = region.attempt(lambda: tensors_of(*tried))
    _check_state(call, carried, known[1 : 1 + len(carried)])
    collected = known[1 + len(carried) :]
    limit = None if count is None else call.host(0)
    begin = None if start is None else call.host(1)
    always = counted and (start is None or (begin is not None and bool(begin.number())))
    if collected and always and limit is not None:
        places = torch.arange(limit.number(), dtype=torch.int64)

        def place(*arguments: torch.Tensor) -> list[torch.Tensor]:
            return results(arguments[-1], *arguments[:-1])[1:]

        return tuple(scan_op(region.body(place, known[1:]), carried, [places], region.operands))
    end = torch.full((), torch.iinfo(torch.int64).max, dtype=torch.int64)
    if count is not None:
        end = call.as_tensor(count, "count").reshape(()).to(torch.int64)
    go = torch.ones((), dtype=torch.bool) if start is None else call.as_tensor(start, "condition").reshape(())
    buffers: list[torch.Tensor] = []
    if collected:
        capacity = _capacity(call, limit, end if always else None)
        buffers = [torch.zeros((capacity, *y.shape), dtype=y.dtype) for y in collected]

    def going(index: torch.Tensor, end: torch.Tensor, go: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.logical_and(go, index < end)

    def advance(
        index: torch.Tensor, end: torch.Tensor, go: torch.Tensor, *rest: torch.Tensor
    ) -> list[torch.Tensor]:
        states, rows = rest[: len(carried)], rest[len(carried) :]
        keep_on, *given = results(index, *states)
        next_states, new = given[: len(carried)], given[len(carried) :]
        filled = [b.index_copy(0, index.reshape(1), y.unsqueeze(0)) for b, y in zip(rows, new, strict=True)]
        return [index + 1, end, keep_on, *next_states, *filled]

    initial = [first, end, go, *carried, *buffers]
    step_body = region.body(advance, [first, end, *known[: 1 + len(carried)], *buffers])
    index, _, _, *final = while_loop_op(going, step_body, tuple(initial), region.operands)  # type: ignore[arg-type]
    states, rows = final[: len(carried)], final[len(carried) :]
    if rows and not always:
        taken = index.item()
        torch._check(taken >= 0)
        torch._check(taken <= rows[0].shape[0])
        rows = [b.narrow(0, 0, taken) for b in rows]
    return (*states, *rows)


def _capacity(call: Call, limit: HostValue | None, steps: torch.Tensor | None) -> int | torch.SymInt:
    """For how many steps a loop has to keep what it collects.

    Args:
        limit: the largest number of steps, if it is known while importing.
        steps: how many steps there are, if data says so before the first.
    """
    if limit is not None:
        capacity: int | torch.SymInt = limit.number()
    elif steps is not None:
        capacity = steps.clamp(min=0).item()  # type: ignore[assignment]
        torch._check(capacity >= 0)
    else:
        capacity = _LARGEST_CAPACITY + 1
    if isinstance(capacity, int) and capacity > _LARGEST_CAPACITY:
        raise call.error("collects outputs of a number of steps that data decides and nothing bounds")
    return capacity


def open_scan(
    call: Call, states: list[Value], sources: Sequence[torch.Tensor]
) -> tuple[list[Value], list[torch.Tensor]]:
    """A Scan over axis 0 that stays one: final states, and what the steps gave, stacked on axis 0."""
    body = call.graph("body")
    carried = _tensors(call, states)
    region = call.region([body])

    def step(*arguments: torch.Tensor) -> list[torch.Tensor]:
        return _tensors(call, call.run(body, arguments))

    known = region.attempt(lambda: step(*carried, *(x.select(0, 0) for x in sources)))
    _check_state(call, carried, known[: len(carried)])
    results = scan_op(region.body(step, known), carried, list(sources), region.operands)
    return list(results[: len(carried)]), list(results[len(carried) :])


def _tensors(call: Call, values: Sequence[Value]) -> list[torch.Tensor]:
    if any(v is None or isinstance(v, list) for v in values):
        raise call.error("carries a sequence or an optional through a number of steps that is not known")
    return [call.as_tensor(v, f"state {i}") for i, v in enumerate(values)]


def _check_state(call: Call, before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> None:
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        same = a.ndim == b.ndim and all(
            statically_known_true(x == y) for x, y in zip(a.shape, b.shape, strict=True)
        )
        if a.dtype != b.dtype or not same:
            left, right = (
                f"{str(v.dtype).removeprefix('torch.')}{[str(n) for n in v.shape]}" for v in (a, b)
            )
            raise call.error(
                f"changes its state {index} from {left} to {right}, in a number of steps that is not known"
            )
