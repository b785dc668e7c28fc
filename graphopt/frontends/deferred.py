"""What torch.export assumed of sizes and left to be checked at run time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import sympy
import torch
from torch.export import ExportedProgram

_SAMPLES = 24
_LARGEST = 10_000  # stands in for a range without an upper end


def broken_assumption(exported: ExportedProgram) -> str | None:
    """An assertion on sizes that some sizes within the promised ranges break, or None.

    torch.export defers what it cannot decide.  Most of that always holds (the order of the strides
    of a reshaped cache); but ``x.reshape(6, -1)`` over a varying batch defers ``batch % 6 == 0``
    too.  The two are told apart by evaluation on sizes drawn from the ranges.

    Assertions that exclude one size (``Ne``) do not count: torch.export reasons as if no size were 0 or 1,
    and the operators themselves hold there.  Neither do assertions on data.
    """
    ranges = {
        s: (max(2, int(r.lower)), int(r.upper) if r.upper.is_Integer else _LARGEST)
        for s, r in exported.range_constraints.items()
    }
    draw = random.Random(0)
    for expression in dict.fromkeys(_assertions(exported)):
        if isinstance(expression, sympy.Ne) or not expression.free_symbols <= ranges.keys():
            continue
        symbols = sorted(expression.free_symbols, key=str)
        corners = [{s: ranges[s][end] for s in symbols} for end in (0, 1)]
        drawn = [{s: draw.randint(*_narrow(ranges[s])) for s in symbols} for _ in range(_SAMPLES)]
        for sizes in (*corners, *drawn):
            if expression.xreplace({s: sympy.Integer(v) for s, v in sizes.items()}) is sympy.false:
                return str(expression)
    return None


def _narrow(bounds: tuple[int, int]) -> tuple[int, int]:
    """The lower part of a range, where sizes that matter lie close together."""
    low, high = bounds
    return low, min(high, low + 64)


def _assertions(exported: ExportedProgram) -> Iterator[sympy.Basic]:
    for node in exported.graph.nodes:
        if node.target is torch.ops.aten._assert_scalar.default:
            value = getattr(node.args[0], "meta", {}).get("val")
            if isinstance(value, torch.SymBool):
                yield value.node.expr
