"""Control flow: branches, and loops that are unrolled while importing.

A program is one graph without subgraphs.  A branch that the sizes decide is taken while importing; where
data decides, both are computed and the result is selected.  Loops run as often as is known while
importing, up to :data:`LONGEST_LOOP` times.
"""

from __future__ import annotations

from typing import Any

import torch

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, VALUE, op
from graphopt.frontends.onnx.values import Constant, HostValue, Value

LONGEST_LOOP = 4096
"""Iterations of a Loop or Scan that are unrolled."""


@op("If", since=1, default=VALUE, ignores=("then_branch", "else_branch"))
def conditional(call: Call, condition: Value) -> tuple[Value, ...]:
    """One branch where the condition is known while importing, else a selection between both.

    A condition on dynamic sizes is asked for the example sizes; the answer becomes a guard, which
    restricts the dimensions it involves.  Selecting computes both branches: they have no effects, but
    their results must have one shape and type.
    """
    known = call.host(0)
    if known is not None:
        branch = "then_branch" if bool(known.number()) else "else_branch"
        return tuple(call.run(call.graph(branch)))
    chosen, other = (call.run(call.graph(b)) for b in ("then_branch", "else_branch"))
    flag = call.as_tensor(condition, "condition").reshape(())
    return tuple(_select(call, i, flag, a, b) for i, (a, b) in enumerate(zip(chosen, other, strict=True)))


def _select(call: Call, index: int, condition: torch.Tensor, a: Value, b: Value) -> torch.Tensor:
    if isinstance(a, list) or isinstance(b, list) or a is None or b is None:
        raise call.unknown(0, "both branches cannot be computed: they give sequences or optionals")
    a, b = (call.as_tensor(v, f"output {index}") for v in (a, b))
    same_shape = len(a.shape) == len(b.shape) and all(
        statically_known_true(x == y) for x, y in zip(a.shape, b.shape, strict=True)
    )
    if a.dtype != b.dtype or not same_shape:
        left, right = ([str(n) for n in v.shape] for v in (a, b))
        raise call.unknown(0, f"both branches cannot be computed: output {index} is {left} or {right}")
    return torch.where(condition, a, b)


@op("Loop", since=1, default=VALUE, kinds={0: HOST, 1: HOST})
def loop(call: Call, count: HostValue | None = None, start: HostValue | None = None, *state: Value) -> Any:
    """Unrolls a loop with a known trip count and a condition that stays known."""
    limit = LONGEST_LOOP + 1 if count is None else count.number()
    if not isinstance(limit, int):
        raise call.error("runs a number of times that depends on the inputs")
    going = True if start is None else bool(start.number())
    _check_length(call, limit if count is not None and going else 0)
    body = call.graph("body")
    carried = list(state)
    collected: list[list[torch.Tensor]] = []
    step = 0
    while going and step < limit:
        _check_length(call, step)
        index = HostValue.of(step, torch.int64)
        keep_on, *results = call.run(body, [index, HostValue.of(True, torch.bool), *carried])
        carried, scanned = results[: len(state)], results[len(state) :]
        collected.append([call.as_tensor(v, "scan output") for v in scanned])
        flag = keep_on.host() if isinstance(keep_on, Constant) else keep_on
        if not isinstance(flag, HostValue):
            raise call.error("ends when data says so; only known conditions are supported")
        going = bool(flag.number())
        step += 1
    if not collected and len(body.outputs) > 1 + len(state):
        raise call.error("runs zero times but collects outputs")
    scans = [torch.stack(list(column)) for column in zip(*collected, strict=True)]
    return (*carried, *scans)


def _check_length(call: Call, steps: int) -> None:
    if steps > LONGEST_LOOP:
        raise call.error(f"runs {steps} times; at most {LONGEST_LOOP} are unrolled")


@op("Scan", since=9, default=VALUE)
def scan(call: Call, *inputs: Value) -> tuple[Value, ...]:
    """Unrolls a Scan: states, and then slices of the scanned inputs, go through the body."""
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
    for column, axis, reverse in zip(stacks, out_axes, out_backwards, strict=True):
        results.append(torch.stack(column[::-1] if reverse else column, dim=axis))
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
        rows.append([*(call.as_tensor(s, "state") for s in states), *(torch.stack(c) for c in stacks)])
    return tuple(torch.stack(list(column)) for column in zip(*rows, strict=True))


def _scan(
    call: Call, states: list[Value], sources: list[torch.Tensor], backwards: list[int]
) -> tuple[list[Value], list[list[torch.Tensor]]]:
    """Final states, and what each step gave for each collected output."""
    steps = sources[0].shape[0]
    if not isinstance(steps, int):
        raise call.error(
            f"runs once for each of {steps} elements of a dynamic axis",
            hint="fix the dimension: --dim NAME=SIZE, or dims={name: size}",
        )
    if steps == 0 or steps > LONGEST_LOOP:
        raise call.error(f"runs {steps} times; 1 to {LONGEST_LOOP} are unrolled")
    body = call.graph("body")
    collected: list[list[torch.Tensor]] = []
    for step in range(steps):
        slices = [
            x.select(0, steps - 1 - step if reverse else step)
            for x, reverse in zip(sources, backwards, strict=True)
        ]
        results = call.run(body, [*states, *slices])
        states, given = results[: len(states)], results[len(states) :]
        collected.append([call.as_tensor(v, "scan output") for v in given])
    return states, [list(column) for column in zip(*collected, strict=True)]
