"""The levels a program goes through on its way to code."""

from __future__ import annotations

import enum
import operator
from typing import Any

import torch

from graphopt.ir.bodies import CONTROL_FLOW


class Level(enum.Enum):
    """Which operators a program may hold.

    ``TORCH``    ATen as torch.export's training IR has it: ``linear``, ``layer_norm``,
                 ``scaled_dot_product_attention`` are whole and gradients flow.
    ``GRAPHOPT`` the same and the operators of graphopt's own dialect.
    ``CORE``     torch's core ATen set and the dialect: decomposed, for code generation.
    """

    TORCH = "torch"
    GRAPHOPT = "graphopt"
    CORE = "core"

    def allows(self, target: Any) -> bool:
        """Whether a call of ``target`` may stand in a program of this level."""
        if is_scalar_function(target):
            return True
        if target in CONTROL_FLOW:
            return True
        if not isinstance(target, torch._ops.OpOverload):
            return False
        if target.namespace == "graphopt":
            return self is not Level.TORCH
        if target.namespace not in ("aten", "prims"):
            return False
        return self is not Level.CORE or torch.Tag.core in target.tags or target in SHAPE_OPS


SHAPE_OPS = frozenset({torch.ops.aten.sym_size.int, torch.ops.aten.sym_numel.default})


def is_scalar_function(target: Any) -> bool:
    """Python functions that compute on symbolic integers or pick a tuple element."""
    return target in _SCALAR_FUNCTIONS


_OPERATORS = "add sub mul floordiv truediv mod neg pow getitem eq ne lt le gt ge and_ or_ not_ index".split()
_TORCH = "sym_max sym_min sym_float sym_int sym_not sym_ite sym_sum _sym_sqrt".split()
_SCALAR_FUNCTIONS = frozenset(
    {getattr(operator, name) for name in _OPERATORS}
    | {getattr(torch, name) for name in _TORCH if hasattr(torch, name)}
    | {round, pow, max, min, abs, int, float}
)
