"""Gradients still flow: the part of a contract that inference cannot see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from graphopt.errors import PassError
from graphopt.ir.program import Program
from graphopt.verification.inputs import draw_inputs


def trainable(program: Program) -> dict[str, torch.Tensor]:
    """The parameters of the graph that require gradients, by name."""
    return {name: value for name, value in program.constants.items() if value.requires_grad}


def check_gradients(before: Program, after: Program, *, seed: int = 0) -> None:
    """Raises when a rewritten program cannot be trained as the original could.

    The loss is the sum of the floating outputs; every parameter that has a gradient in the
    original graph, or a parameter that took its place, must have a finite one.

    Raises:
        PassError: GO-4001, naming a parameter without gradient.
    """
    if not trainable(before):
        return
    inputs = draw_inputs(before, seed=seed)
    reached = with_gradient(before, inputs)
    if not reached:
        return  # parameters that no output needs
    if not trainable(after):
        raise PassError("invariant 'training' is broken: no parameter is trainable any more", code="GO-4001")
    now = with_gradient(after, inputs)
    lost = sorted(
        n for n in trainable(after) if n not in now and (n in reached or n not in trainable(before))
    )
    if lost:
        raise PassError(
            f"invariant 'training' is broken: no gradient reaches {', '.join(lost[:5])}", code="GO-4001"
        )


def with_gradient(program: Program, inputs: Iterable[Any]) -> set[str]:
    """Names of the parameters that a backward pass of the sum of the floating outputs reaches with finite
    gradients; the parameters' own ``grad`` is kept."""
    parameters = trainable(program)
    if not parameters:
        return set()
    with torch.enable_grad():
        outputs = [o for o in program(*inputs) if o.requires_grad]
        if not outputs:
            return set()
        loss = sum((o.double().sum() for o in outputs), start=torch.zeros((), dtype=torch.float64))
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None and bool(torch.isfinite(gradient).all())
    }
