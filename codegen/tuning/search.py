"""What to try next on one kernel: neighbours of the best, and now and then any point of the space.

One mutation in three is of two choices, one trial in four a random point.  Spaces here are small
(tens to thousands of points) and the default is good, so that a hill climb finds most of what there
is; random points get it off a local optimum.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping
from math import prod

from graphopt.codegen.schedules.decisions import Choice

Point = tuple[tuple[str, int], ...]
"""Decisions that differ from the defaults, sorted: the same schedule is the same point."""

_TRIES = 100
_ENUMERATED = 1 << 16


def point(space: Mapping[str, Choice], decisions: Mapping[str, int]) -> Point:
    """Decisions as a point of the space."""
    return tuple(sorted((k, v) for k, v in decisions.items() if k not in space or v != space[k].default))


def size(space: Mapping[str, Choice]) -> int:
    """Number of points."""
    return prod(len(choice.options) for choice in space.values())


def propose(
    space: Mapping[str, Choice], tried: Collection[Point], best: Mapping[str, int], generator: random.Random
) -> dict[str, int] | None:
    """Decisions that were not tried yet, only those that differ from the defaults; None if all were.

    Args:
        tried: points; the default counts as tried.
        best: the fastest decisions so far.
    """
    seen = {(), *tried}
    names = list(space)
    for _ in range(_TRIES):
        if generator.random() < 0.25:
            candidate = {name: generator.choice(space[name].options) for name in names}
        else:
            candidate = {name: best.get(name, space[name].default) for name in names}
            for name in generator.sample(names, min(len(names), 1 + (generator.random() < 1 / 3))):
                candidate[name] = generator.choice(space[name].options)
        found = point(space, candidate)
        if found not in seen:
            return dict(found)
    if size(space) > _ENUMERATED:
        return None
    for values in itertools.product(*(space[name].options for name in names)):
        found = point(space, dict(zip(names, values, strict=True)))
        if found not in seen:
            return dict(found)
    return None
