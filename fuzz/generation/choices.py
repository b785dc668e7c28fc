"""Where the fuzzer's decisions come from: a random number generator, or hypothesis.

Everything that draws graphs asks a :class:`Choices`, so that one table of operators serves both the
generator, which is fast, and the hypothesis strategies, which shrink.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

_STEPS = 64


class Choices(Protocol):
    """Decisions.  What comes first, or is smaller, is simpler, and what shrinking ends at."""

    def one_of(self, options: Sequence[T]) -> T:
        """One of several, of which there is at least one."""
        ...

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        ...

    def chance(self, probability: float) -> bool:
        """True with a probability; False is simpler."""
        ...


class RandomChoices:
    """Decisions of a seed; the same on every machine and in every process."""

    def __init__(self, *seed: int | str) -> None:
        digest = hashlib.sha256("/".join(map(str, seed)).encode()).digest()
        self._random = random.Random(int.from_bytes(digest[:16], "big"))

    def one_of(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability


def binned(choices: Choices, low: int, high: int) -> int:
    """An integer whose magnitude is uniform: first a bin ``[2^i, 2^(i+1))``, then a number in it.

    Uniform numbers are nearly always large, and what a solver returns lies on a boundary; kernels behave
    differently at 1, 2, 3, near 8, and beyond 64.
    """
    if low >= high:
        return low
    bins = []
    start = 1
    while start <= high - low + 1:
        bins.append((start, min(2 * start - 1, high - low + 1)))
        start *= 2
    first, last = choices.one_of(bins)
    return low - 1 + choices.integer(first, last)


def number(choices: Choices, low: float, high: float) -> float:
    """One of 65 equally spaced numbers from ``low`` to ``high``: exact in half precision for round bounds."""
    return low + (high - low) * choices.integer(0, _STEPS) / _STEPS


def weighted(choices: Choices, options: Sequence[tuple[T, float]]) -> T:
    """One of several, each with its weight; the first is the simplest."""
    total = sum(weight for _, weight in options)
    for i, (option, weight) in enumerate(options[:-1]):
        rest = sum(w for _, w in options[i:])
        if total > 0 and weight > 0 and not choices.chance(1 - weight / rest):
            return option
    return options[-1][0]


def shuffled(choices: Choices, options: Sequence[T]) -> list[T]:
    """The options in another order."""
    rest, found = list(options), []
    while rest:
        found.append(rest.pop(choices.integer(0, len(rest) - 1)))
    return found
