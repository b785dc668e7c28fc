"""How much a file may ask of the importer; ``docs/untrusted_files.md`` lists the numbers.

A file of a few hundred bytes can describe 2^40 nodes (functions that call each other twice, loops in
loops) or tensors of 2^60 elements.  What is far beyond any model that somebody trained is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

MOST_NODES = 20_000
"""Nodes that one evaluation of a model may run, those of unrolled loops and called functions included."""

DEEPEST_CALLS = 48
"""Subgraphs and functions inside each other; Python's own stack ends not far above."""

DEEPEST_CONTROL_FLOW = 5
"""Branches and loops that data decides inside each other: each level more than doubles the tracing."""

LARGEST_HOST_VALUE = 1 << 16
"""Elements of a shape, an axis list or another small array that is computed while importing."""

LARGEST_INPUT = 1 << 29
"""Elements of an input at the sizes with which the model is tried."""

LARGEST_SPARSE = 1 << 28
"""Elements of a sparse initialiser, which becomes a dense one."""

HIGHEST_RANK = 64
"""Axes of a tensor; numpy's own limit."""


class TooLarge(Exception):
    """A computation on host values would exceed :data:`LARGEST_HOST_VALUE`."""


def check_host_size(shape: Iterable[int]) -> None:
    """Raises :class:`TooLarge` before an array of this shape is made while importing."""
    if math.prod(shape) > LARGEST_HOST_VALUE:
        raise TooLarge
