"""Branches and loops, run by an interpreter: their bodies have to run in its precision too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from graphopt.errors import InputError

MOST_STEPS = 1_000_000
"""Steps of a loop after which it is taken for one that never ends on the inputs it is given."""

RunBody = Callable[[fx.GraphModule, Sequence[Any]], Any]


def run_control_flow(target: Any, args: Sequence[Any], run: RunBody) -> tuple[Tensor, ...]:
    """What a higher-order operator gives.

    Args:
        target: ``cond``, ``while_loop`` or ``scan``.
        args: its operands, bodies as graph modules.
        run: runs a body.

    Raises:
        InputError: a loop has not ended after :data:`MOST_STEPS`.
    """
    if target is torch.ops.higher_order.cond:
        condition, chosen, other, operands = args
        return tuple(run(chosen if bool(condition) else other, operands))
    if target is torch.ops.higher_order.while_loop:
        condition, body, state, operands = args
        for _ in range(MOST_STEPS):
            if not bool(run(condition, [*state, *operands])):
                return tuple(state)
            state = run(body, [*state, *operands])
        raise InputError(f"a loop has not ended after {MOST_STEPS} steps")
    body, state, sources, operands = args
    stacked: list[Sequence[Tensor]] = []
    for step in range(sources[0].shape[0]):
        results = run(body, [*state, *(x[step] for x in sources), *operands])
        state = results[: len(state)]
        stacked.append(results[len(state) :])
    return (*state, *(torch.stack(list(column)) for column in zip(*stacked, strict=True)))
