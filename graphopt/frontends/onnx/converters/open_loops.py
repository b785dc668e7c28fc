"""Loops whose number of steps sizes or data decide: ``torch.while_loop`` and torch's ``scan``.

Their state keeps its shape and dtype from step to step.  ONNX allows a state to grow, and bodies that need
to know which step it is; such a loop has no form in torch unless it is unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graphopt._torch import scan_op, statically_known_true, while_loop_op
from graphopt.errors import InputError
from graphopt.frontends.onnx.call import Call, UnknownError
from graphopt.frontends.onnx.values import Constant, HostValue, Value, type_of

_LARGEST_CAPACITY = 1 << 16
"""Steps for whose collected outputs a loop that data ends reserves memory."""


def open_loop(call: Call, count: Value, start: Value, state: list[Value]) -> tuple[Value, ...]:
    """A Loop that stays one: final states, then what the steps gave, stacked.

    Stacked outputs need to know how many there will be: the number of steps is one that data decides if the
    condition does, and then the largest number has to be known while importing.
    """
    loop = _OpenLoop(call, state)
    limit = None if count is None else call.host(0)
    begin = None if start is None else call.host(1)
    counted = loop.goes_on and (start is None or (begin is not None and bool(begin.number())))
    if loop.collected and counted and limit is not None:
        return loop.as_scan(limit)
    end = torch.full((), torch.iinfo(torch.int64).max, dtype=torch.int64)
    if count is not None:
        end = call.as_tensor(count, "count").reshape(()).to(torch.int64)
    go = torch.ones((), dtype=torch.bool) if start is None else call.as_tensor(start, "condition").reshape(())
    return loop.as_while_loop(end, go, limit, counted)


class _OpenLoop:
    """The body of a Loop, as torch's loops need it.

    Attributes:
        carried: the states before the first step.
        known: of one step on fake tensors: the condition, the states, what is collected.
        collected: the last of these.
        goes_on: the condition holds after every step.
    """

    def __init__(self, call: Call, state: list[Value]) -> None:
        self.call = call
        self.body = call.graph("body")
        self.carried = _tensors(call, state)
        self.region = call.region([self.body])
        self.first = torch.zeros((), dtype=torch.int64)
        try:
            tried = self.region.attempt(lambda: self.step(self.first, *self.carried))
        except UnknownError as error:
            raise _refused(call, error.message) from error
        keep_on = tried[0].host() if isinstance(tried[0], Constant) else tried[0]
        self.goes_on = isinstance(keep_on, HostValue) and bool(keep_on.number())
        self.known = self.region.attempt(lambda: self.tensors_of(tried))
        self.collected = self.known[1 + len(self.carried) :]
        _check_state(call, self.carried, self.known[1 : 1 + len(self.carried)])

    def step(self, index: torch.Tensor, *states: torch.Tensor) -> list[Value]:
        return self.call.run(self.body, [index, HostValue.of(True, torch.bool), *states])

    def tensors_of(self, results: Sequence[Value]) -> list[torch.Tensor]:
        keep_on = self.call.as_tensor(results[0], "condition").reshape(())
        return [keep_on, *_tensors(self.call, results[1:])]

    def as_scan(self, limit: HostValue) -> tuple[torch.Tensor, ...]:
        """Over the numbers of the steps."""

        def body(*arguments: torch.Tensor) -> list[torch.Tensor]:
            *states, index = arguments
            return self.tensors_of(self.step(index, *states))[1:]

        places = torch.arange(limit.number(), dtype=torch.int64)
        inner = self.region.body(body, self.known[1:])
        return tuple(scan_op(inner, self.carried, [places], self.region.operands))

    def as_while_loop(
        self, end: torch.Tensor, go: torch.Tensor, limit: HostValue | None, counted: bool
    ) -> tuple[torch.Tensor, ...]:
        """While ``go`` and fewer than ``end`` steps are done; what is collected fills a buffer."""
        count = len(self.carried)
        buffers: list[torch.Tensor] = []
        if self.collected:
            rows = _capacity(self.call, limit, end if counted else None)
            buffers = [torch.zeros((rows, *y.shape), dtype=y.dtype) for y in self.collected]

        def goes(index: torch.Tensor, end: torch.Tensor, go: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return torch.logical_and(go, index < end)

        def body(
            index: torch.Tensor, end: torch.Tensor, go: torch.Tensor, *rest: torch.Tensor
        ) -> list[torch.Tensor]:
            keep_on, *given = self.tensors_of(self.step(index, *rest[:count]))
            filled = [
                buffer.index_copy(0, index.reshape(1), row.unsqueeze(0))
                for buffer, row in zip(rest[count:], given[count:], strict=True)
            ]
            return [index + 1, end, keep_on, *given[:count], *filled]

        initial = (self.first, end, go, *self.carried, *buffers)
        inner = self.region.body(body, [self.first, end, *self.known[: 1 + count], *buffers])
        taken, _, _, *final = while_loop_op(goes, inner, initial, self.region.operands)  # type: ignore[arg-type]
        if not buffers or counted:
            return tuple(final)
        steps = taken.item()
        torch._check(steps >= 0)
        torch._check(steps <= buffers[0].shape[0])
        return (*final[:count], *(b.narrow(0, 0, steps) for b in final[count:]))


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
        raise _refused(call, "collects outputs, and nothing bounds how many")
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

    try:
        known = region.attempt(lambda: step(*carried, *(x.select(0, 0) for x in sources)))
    except UnknownError as error:
        raise _refused(call, error.message) from error
    _check_state(call, carried, known[: len(carried)])
    results = scan_op(region.body(step, known), carried, list(sources), region.operands)
    return list(results[: len(carried)]), list(results[len(carried) :])


def _tensors(call: Call, values: Sequence[Value]) -> list[torch.Tensor]:
    if any(v is None or isinstance(v, list) for v in values):
        raise _refused(call, "carries a sequence or an optional from step to step")
    return [call.as_tensor(v, f"state {i}") for i, v in enumerate(values)]


def _check_state(call: Call, before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> None:
    for index, (a, b) in enumerate(zip(before, after, strict=True)):
        same = a.ndim == b.ndim and all(
            statically_known_true(x == y) for x, y in zip(a.shape, b.shape, strict=True)
        )
        if a.dtype != b.dtype or not same:
            raise _refused(call, f"changes its state {index} from {type_of(a)} to {type_of(b)}")


def _refused(call: Call, why: str) -> InputError:
    """The error for a loop that could only be unrolled; it names the input that decides the steps."""
    if call.op_type == "Loop":
        for index, given in enumerate(call.inputs[:2]):
            if given is not None and call.host(index) is None:
                return call.unknown(index, why)
    return call.error(
        f"runs a number of times that is not known, or is too large to be unrolled, and {why}",
        hint="fix the dimension: --dim NAME=SIZE, or dims={name: size}",
    )
