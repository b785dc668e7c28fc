"""The inputs on which oracles compare: the case's own, and others like them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from graphopt.fuzz.graphs import draw_inputs
from graphopt.fuzz.graphs.graph import Leaf
from graphopt.fuzz.oracles.subject import Subject

FRESH = 3
"""Sets of inputs on which a failure is tried again."""

_SCALES = (0.25, 1.0, 4.0)


def input_sets(subject: Subject) -> Iterator[tuple[torch.Tensor, ...]]:
    """The case's inputs as drawn, and with elements scaled by 2^-4 ... 2^4: beyond a clamp at 6."""
    yield subject.inputs
    if any(_scalable(leaf) for leaf in subject.case.graph.inputs):
        yield _spread(subject, subject.inputs, subject.case.seed)


def fresh_sets(subject: Subject, attempt: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Others, drawn again from seeds that the case did not use.

    Args:
        attempt: which of :func:`input_sets` failed; the fresh ones are drawn in the same way.
    """
    for i, scale in enumerate(_SCALES[:FRESH]):
        seed = subject.case.seed * 7919 + 104_729 * (i + 1)
        drawn = draw_inputs(subject.case.graph, seed)
        if attempt:
            drawn = _spread(subject, drawn, seed)
        yield tuple(
            x * scale if _scalable(leaf) else x
            for leaf, x in zip(subject.case.graph.inputs, drawn, strict=True)
        )


def _scalable(leaf: Leaf) -> bool:
    return leaf.values == "normal" and leaf.given is None and leaf.dtype in ("float32", "float64")


def _spread(subject: Subject, inputs: tuple[torch.Tensor, ...], seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    spread = []
    for leaf, x in zip(subject.case.graph.inputs, inputs, strict=True):
        if _scalable(leaf):
            powers = torch.randint(-4, 5, tuple(x.shape), generator=generator)
            x = x * torch.exp2(powers.to(x.dtype))
        spread.append(x)
    return tuple(spread)
