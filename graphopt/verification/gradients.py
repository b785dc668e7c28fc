"""Gradients of two programs, in float64: do they train their parameters alike?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from graphopt.ir.program import Program
from graphopt.verification.constants import has_new_constants
from graphopt.verification.reference import Float64Interpreter, run_eagerly
from graphopt.verification.rule import FLOAT64_RELATIVE

GRADIENT_RELATIVE = 1e3 * FLOAT64_RELATIVE
"""Of a gradient's largest element; a backward pass is worse conditioned than the outputs are."""


def gradients_differ(before: Program, after: Program, inputs: Sequence[Tensor]) -> str | None:
    """The first parameter whose gradient is another one, by name; None if there is none.

    The loss is the sum of the floating-point outputs.  Both programs run in float64, and gradients are
    compared to ``GRADIENT_RELATIVE`` of the parameter's largest.  That needs the same parameters (by
    identity) in both: after a fold the parameters are others, and None is returned.  So it is where
    constants were folded, which is a rounding of its own, and where a gradient is not finite.

    Raises:
        InputError: a program does not run on the inputs.
    """
    shared = {id(t) for t in before.constants.values() if t.requires_grad}
    if shared != {id(t) for t in after.constants.values() if t.requires_grad}:
        return None
    if not shared or has_new_constants(after, before):
        return None
    want, got = _gradients(before, inputs), _gradients(after, inputs)
    names = {id(t): name for name, t in before.constants.items()}
    for key, expected in want.items():
        found = got[key]
        if not bool(expected.isfinite().all()):
            continue
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        if not bool(((found - expected).abs() <= GRADIENT_RELATIVE * scale).all()):
            return names[key]
    return None


def _gradients(program: Program, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
    """Of each trainable parameter, by identity; zeros where the loss does not depend on it."""
    module = program.graph_module
    _, dtypes = run_eagerly(module, inputs)
    interpreter = _WithLeaves(module, dtypes)
    outputs = interpreter.run_with_gradients(inputs)
    leaves = interpreter.leaves
    losses = [y.abs().sum() if y.is_complex() else y.sum() for y in outputs if y.requires_grad]
    if not losses or not leaves:
        return {key: torch.zeros_like(leaf) for key, leaf in leaves.items()}
    found = torch.autograd.grad(sum(losses, torch.zeros(())), list(leaves.values()), allow_unused=True)
    return {
        key: g if g is not None else torch.zeros_like(leaf)
        for (key, leaf), g in zip(leaves.items(), found, strict=True)
    }


class _WithLeaves(Float64Interpreter):
    """Runs in float64 with parameters that are float64 leaves, so that no gradient is rounded."""

    def __init__(self, module: fx.GraphModule, dtypes: dict[str, Any]) -> None:
        super().__init__(module, dtypes)
        self.leaves: dict[int, Tensor] = {}

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        if id(value) not in self.leaves:
            wide = torch.complex128 if value.is_complex() else torch.float64
            self.leaves[id(value)] = value.detach().to(wide).clone().requires_grad_()
        return self.leaves[id(value)]
