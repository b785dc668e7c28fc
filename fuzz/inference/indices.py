"""Inputs that hold indices: the size that their values have to stay below.

The meta device does not look at values.  Kernels on the CPU do: the largest index that one accepts, for
several sizes of the inputs, is explained by an expression like any output size.
"""

from __future__ import annotations

import numpy as np

from graphopt.fuzz.inference import shapes
from graphopt.fuzz.inference.oracle import Oracle
from graphopt.fuzz.inference.sampling import Samples, Values
from graphopt.fuzz.rules.expressions import Expression

CALLS = 60
"""Calls whose largest index is measured."""
LARGEST = 300
"""No size of a sample is above; kernels that do not check must not be led far astray."""


def index_bounds(oracle: Oracle, samples: Samples) -> dict[int, Expression]:
    """For each integer input whose values kernels check: what they must be below.

    An input for which no expression fits is left out, as are those of operators that take any value.
    """
    inputs = [i for i, tensor in enumerate(oracle.partial.inputs) if tensor.kind == "int"]
    calls = [v for v in samples.valid if all(abs(n) < LARGEST // 2 for n in v)][:CALLS]
    found = {}
    for index in inputs if calls else ():
        if _accepts(oracle, calls[0], index, LARGEST):
            continue
        bound = _explained(oracle, calls, index)
        if bound is not None:
            found[index] = bound
    return found


def _accepts(oracle: Oracle, values: Values, index: int, fill: int) -> bool:
    assignment = dict(zip(oracle.partial.symbols, values, strict=True))
    return oracle.run(assignment, "cpu", fills={index: fill}) is not None


def _limit(oracle: Oracle, values: Values, index: int) -> int:
    """The least index that is refused; 0 where even 0 is."""
    low, high = 0, LARGEST
    while low < high:
        middle = (low + high) // 2
        if _accepts(oracle, values, index, middle):
            low = middle + 1
        else:
            high = middle
    return low


def _explained(oracle: Oracle, calls: list[Values], index: int) -> Expression | None:
    names = oracle.partial.symbols
    rows = np.array(calls, dtype=np.int64)
    limits = np.array([[_limit(oracle, values, index)] for values in calls], dtype=np.int64)
    if (limits == limits[0]).all() or limits.min() < 1:
        return None
    leading: dict[bytes, int] = {}
    for i in range(len(names)):
        leading.setdefault(rows[:, i].tobytes(), i)
    chosen = sorted(leading.values())
    columns = {name: rows[:, i] for i, name in enumerate(names)}
    (likely,) = shapes.dependents([names[i] for i in chosen], rows[:, chosen], limits)
    fitting = shapes.candidates(likely, columns, limits[:, 0])
    return fitting[0] if fitting else None
