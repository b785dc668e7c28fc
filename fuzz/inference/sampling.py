"""A walk through an operator's valid calls, one change at a time, and what it bumps into.

No knowledge of the operator is used but its recorded calls.  Every change is one that some operator
needs to stay valid: one symbol, all that share its value, a factor moved from one to another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.fuzz.inference.oracle import Oracle, Undecided

SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24)
ATTRIBUTES = (-2, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
SMALL_SIZE = 12
"""Of the sizes that are drawn for tensors of four and more axes, which have many elements as it is."""
LARGEST_SIZE = 240
"""Products of two sizes stay below; larger ones teach nothing and cost time on the CPU."""
LARGEST_SEED = 4096
"""Of a recorded call that the walk starts from, such as one of a model with its real number of channels."""

Values = tuple[int, ...]


@dataclass
class Samples:
    """Calls of one operator.

    Attributes:
        valid: values of the symbols, with the output sizes.
        invalid: values of the symbols.
    """

    valid: dict[Values, tuple[int, ...]] = field(default_factory=dict)
    invalid: dict[Values, None] = field(default_factory=dict)

    def add(self, values: Values, oracle: Oracle) -> bool:
        """Asks the oracle and files the answer, if it has one; whether the call is valid."""
        try:
            outcome = oracle(values)
        except Undecided:
            return False
        if outcome is None:
            self.invalid[values] = None
            return False
        self.valid[values] = outcome
        return True

    def judge_again(self, oracle: Oracle) -> None:
        """Asks a stricter oracle about the valid calls."""
        before, self.valid = self.valid, {}
        for values in before:
            self.add(values, oracle)


class Walk:
    """Draws calls around those known to be valid.

    Args:
        oracle: of the partial operator.
        seeds: recorded calls.
        rng: the only source of randomness.
        floors: the least value of each symbol; smaller ones are not drawn.
        sizes: what fresh sizes are drawn from.
    """

    def __init__(
        self,
        oracle: Oracle,
        seeds: Sequence[Values],
        rng: random.Random,
        floors: Sequence[int],
        sizes: Sequence[int] = SIZES,
    ) -> None:
        self.oracle, self.rng, self.floors, self.sizes = oracle, rng, floors, sizes
        self.crowded = [len(t.sizes) >= 4 for t in oracle.partial.inputs for _ in t.sizes]
        self.small = [size for size in sizes if size <= SMALL_SIZE]
        self.count = len(self.crowded)
        self.samples = Samples()
        self.pool: list[Values] = []
        for seed in seeds:
            if self._in_range(seed, LARGEST_SEED) and seed not in self.samples.valid:
                if self.samples.add(seed, oracle):
                    self.pool.append(seed)

    def run(self, valid: int, invalid: int, calls: int) -> Samples:
        """Draws until there are enough of both, twice enough valid ones, or ``calls`` were made."""
        if not self.pool or not self.floors:
            return self.samples
        strict = self.oracle.strict
        for _ in range(calls):
            enough = valid if len(self.samples.invalid) >= invalid else 2 * valid
            if not self.pool or len(self.samples.valid) >= enough:
                break
            values = self._changed(self._start())
            if not self._in_range(values) or values in self.samples.valid or values in self.samples.invalid:
                continue
            if self.samples.add(values, self.oracle):
                self.pool.append(values)
            if self.oracle.strict and not strict:
                strict = True
                self.samples.judge_again(self.oracle)
                self.pool = list(self.samples.valid)
        return self.samples

    def _start(self) -> Values:
        """A valid call, half the time one of the latest: the walk moves away from its seeds."""
        recent = self.pool[-12:] if self.rng.random() < 0.5 else self.pool
        return self.rng.choice(recent)

    def _in_range(self, values: Values, largest: int = LARGEST_SIZE) -> bool:
        if any(v < low for v, low in zip(values, self.floors, strict=True)):
            return False
        return all(abs(v) <= largest for v in values)

    def _fresh(self, index: int) -> int:
        if index >= self.count:
            return self.rng.choice(ATTRIBUTES)
        return self.rng.choice(self.small if self.crowded[index] else self.sizes)

    def _changed(self, values: Values) -> Values:
        rng, new = self.rng, list(values)
        index = rng.randrange(len(new))
        move = rng.random()
        if move < 0.30:
            new[index] = self._fresh(index)
        elif move < 0.40:
            new[index] += rng.choice((-2, -1, 1, 2))
        elif move < 0.46:
            new[index] = 1
        elif move < 0.62:  # all that share a value, or some of them
            same = [i for i, v in enumerate(values) if v == values[index]]
            some = same if rng.random() < 0.5 else [i for i in same if rng.random() < 0.5]
            fresh = self._fresh(index)
            for i in some:
                new[i] = fresh
        elif move < 0.70:  # two of a value, the rest stays
            same = [i for i, v in enumerate(values) if v == values[index] and i != index]
            fresh = self._fresh(index)
            for i in [index, *(rng.sample(same, 1) if same else [])]:
                new[i] = fresh
        elif move < 0.80:
            self._scaled(new, index)
        elif move < 0.90:
            self._combined(new, index)
        elif move < 0.95:
            other = rng.randrange(len(new))
            new[index], new[other] = new[other], new[index]
        else:
            for i in rng.sample(range(len(new)), min(len(new), rng.choice((2, 2, 3)))):
                new[i] = self._fresh(i)
        return tuple(new)

    def _scaled(self, new: list[int], index: int) -> None:
        """A factor on one symbol, and on one or two others, or taken from them."""
        rng = self.rng
        factor = rng.choice((2, 2, 3, 4, 5))
        new[index] *= factor
        for other in rng.sample(range(len(new)), min(len(new), rng.choice((1, 1, 2)))):
            if other == index:
                continue
            if rng.random() < 0.6:
                new[other] *= factor
            elif new[other] % factor == 0:
                new[other] //= factor

    def _combined(self, new: list[int], index: int) -> None:
        """One symbol as sum, difference, product or quotient of two others."""
        rng = self.rng
        a, b = new[rng.randrange(len(new))], new[rng.randrange(len(new))]
        new[index] = rng.choice((a + b, a - b, a * b, a // b if b > 0 else a, a, a + 1, a - 1))
