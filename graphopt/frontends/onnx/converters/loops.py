"""``Loop`` and ``Scan``: unrolled where the number of steps is known and small.

Others stay loops: :mod:`graphopt.frontends.onnx.converters.open_loops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.open_loops import open_loop, open_scan
from graphopt.frontends.onnx.registry import VALUE, op
from graphopt.frontends.onnx.values import Constant, HostValue, Value

LONGEST_UNROLLED = 4096
"""Steps of a Loop or Scan that are unrolled."""

MOST_UNROLLED_NODES = 8192
"""Nodes that unrolling may make of one Loop or Scan."""


@op("Loop", since=1, default=VALUE)
def loop(call: Call, count: Value = None, start: Value = None, *state: Value) -> Any:
    """``Loop(most steps, condition, *state)``: final states, then what the steps gave, stacked.

    Unrolled if the number of steps is known while importing and stays known.  A count that is missing
    is known: the condition ends such a loop.
    """
    limit = None if count is None else call.host(0)
    steps = LONGEST_UNROLLED if limit is None else limit.number()
    begin = None if start is None else call.host(1)
    known_start = start is None or begin is not None
    if known_start and (count is None or limit is not None) and isinstance(steps, int):
        going = begin is None or bool(begin.number())
        if not going or count is None or _few(call.graph("body"), steps):
            unrolled = _unrolled(call, steps if going else 0, list(state), ends=count is not None)
            if unrolled is not None:
                return unrolled
    return open_loop(call, count, start, list(state))


def _few(body: ir.Graph, steps: int) -> bool:
    return steps <= LONGEST_UNROLLED and steps * max(1, len(body)) <= MOST_UNROLLED_NODES


def _unrolled(call: Call, steps: int, state: list[Value], *, ends: bool) -> tuple[Value, ...] | None:
    """The results of at most ``steps`` steps; None if their number turns out not to be known.

    Args:
        ends: the loop ends after ``steps`` steps, also if its condition still holds.
    """
    body = call.graph("body")
    count = len(state)
    collected: list[list[torch.Tensor]] = []
    for step in range(steps):
        index = HostValue.of(step, torch.int64)
        keep_on, *results = call.run(body, [index, HostValue.of(True, torch.bool), *state])
        state, given = results[:count], results[count:]
        collected.append([call.as_tensor(v, "scan output") for v in given])
        flag = keep_on.host() if isinstance(keep_on, Constant) else keep_on
        if not isinstance(flag, HostValue):
            return None
        if not bool(flag.number()):
            break
    else:
        if not ends:
            return None
    if not collected and len(body.outputs) > 1 + count:
        raise call.error("runs zero times but collects outputs")
    stacks = [torch.stack(list(column)) for column in zip(*collected, strict=True)]
    return (*state, *stacks)


@op("Scan", since=9, default=VALUE)
def scan(call: Call, *inputs: Value) -> tuple[Value, ...]:
    """States, and then slices of the scanned inputs, go through the body."""
    scanned = call.int("num_scan_inputs")
    sources = [call.as_tensor(v, "scan input") for v in inputs[len(inputs) - scanned :]]
    axes = call.ints("scan_input_axes", [0] * scanned)
    backwards = call.ints("scan_input_directions", [0] * scanned)
    outputs = len(call.graph("body").outputs) - (len(inputs) - scanned)
    states, stacks = _scan(
        call,
        list(inputs[: len(inputs) - scanned]),
        [x.movedim(a, 0) for x, a in zip(sources, axes, strict=True)],
        backwards,
    )
    out_axes = call.ints("scan_output_axes", [0] * outputs)
    out_backwards = call.ints("scan_output_directions", [0] * outputs)
    results = []
    for stack, axis, reverse in zip(stacks, out_axes, out_backwards, strict=True):
        results.append((stack.flip(0) if reverse else stack).movedim(0, axis))
    return (*states, *results)


@op("Scan", since=8, default=VALUE)
def scan_batched(call: Call, lengths: Value, *inputs: Value) -> tuple[Value, ...]:
    """Version 8: every input has a batch axis first, and the body runs for each of its elements."""
    if lengths is not None:
        raise call.error("has sequences of different lengths")
    scanned = call.int("num_scan_inputs")
    tensors = [call.as_tensor(v, "scan input") for v in inputs]
    batch = tensors[0].shape[0]
    if not isinstance(batch, int):
        raise call.error("runs its body for each element of a dynamic batch", hint="fix the batch size")
    backwards = call.ints("directions", [0] * scanned)
    rows = []
    for element in range(batch):
        parts: list[Any] = [x[element] for x in tensors]
        count = len(parts) - scanned
        states, stacks = _scan(call, parts[:count], parts[count:], backwards)
        rows.append([*(call.as_tensor(s, "state") for s in states), *stacks])
    return tuple(torch.stack(list(column)) for column in zip(*rows, strict=True))


def _scan(
    call: Call, states: list[Value], sources: list[torch.Tensor], backwards: Sequence[int]
) -> tuple[list[Value], list[torch.Tensor]]:
    """Final states, and what the steps gave for each collected output, stacked on axis 0."""
    steps = sources[0].shape[0]
    body = call.graph("body")
    if steps == 0:
        raise call.error("scans an axis of size 0")
    if not isinstance(steps, int) or not _few(body, steps):
        ordered = [x.flip(0) if reverse else x for x, reverse in zip(sources, backwards, strict=True)]
        return open_scan(call, states, ordered)
    collected: list[list[torch.Tensor]] = []
    for step in range(steps):
        slices = [
            x.select(0, steps - 1 - step if reverse else step)
            for x, reverse in zip(sources, backwards, strict=True)
        ]
        results = call.run(body, [*states, *slices])
        states, given = results[: len(states)], results[len(states) :]
        collected.append([call.as_tensor(v, "scan output") for v in given])
    return states, [torch.stack(list(column)) for column in zip(*collected, strict=True)]
