"""The judgement of a rule on calls that it was not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.fuzz.inference.learner import Learned
from graphopt.fuzz.inference.oracle import Oracle
from graphopt.fuzz.inference.sampling import Samples, Values, Walk
from graphopt.fuzz.rules.expressions import evaluator
from graphopt.fuzz.rules.rule import HoldOut
from graphopt.fuzz.rules.solving import ConstraintSystem

THRESHOLD = 0.99
"""Below it, a rule is not used."""
SIZES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    12,
    13,
    16,
    17,
    19,
    23,
    25,
    27,
    28,
    29,
    31,
    32,
    33,
    35,
    37,
    41,
    43,
    48,
)
"""Sizes of hold-out calls: some are larger than any that rules are learnt from."""
WALKED = 100
"""Valid and invalid calls from a walk."""
PROPOSED = 50
"""Calls that satisfy the constraints, as fuzzing proposes them."""


def judge(
    learned: Learned,
    oracle: Oracle,
    seen: Samples,
    walk: Walk,
    propose: Callable[[ConstraintSystem], Values | None],
    system: ConstraintSystem,
) -> HoldOut:
    """Precision, recall and exactness on fresh calls.

    Args:
        learned: constraints and expressions; every output size must have one.
        oracle: who is right.
        seen: the calls that the rule was learnt from; they do not count.
        walk: a fresh one: it knows the operator's records, not the rule.
        propose: draws a call that satisfies a system.
        system: the constraints.
    """
    believed = not oracle.strict
    drawn = walk.run(WALKED, WALKED, 5 * WALKED)
    fresh = Samples(dict(drawn.valid), dict(drawn.invalid))
    for _ in range(PROPOSED):
        values = propose(system)
        if values is not None:
            fresh.add(values, oracle)
    if believed and oracle.strict:
        fresh.judge_again(oracle)
    names = oracle.partial.symbols
    valid = [v for v in fresh.valid if v not in seen.valid]
    invalid = [v for v in fresh.invalid if v not in seen.invalid]
    accepted = _accepted(system, names, valid)
    wrong = int(_accepted(system, names, invalid).sum())
    right = int(accepted.sum())
    exact = sum(
        _explains(learned, names, v, fresh.valid[v]) for v, a in zip(valid, accepted, strict=True) if a
    )
    return HoldOut(
        len(valid),
        len(invalid),
        precision=right / (right + wrong) if right + wrong else 1.0,
        recall=right / len(valid) if valid else 1.0,
        exact=exact / right if right else 1.0,
    )


def _accepted(system: ConstraintSystem, names: Sequence[str], calls: Sequence[Values]) -> np.ndarray:
    rows = np.array(calls, dtype=np.int64).reshape(len(calls), len(names))
    wide = ConstraintSystem({n: (low, 1 << 30) for n, (low, _) in system.ranges.items()}, system.predicates)
    return wide.truth({name: rows[:, i] for i, name in enumerate(names)}, len(calls))


def _explains(learned: Learned, names: Sequence[str], values: Values, sizes: tuple[int, ...]) -> bool:
    assignment = dict(zip(names, values, strict=True))
    return all(
        e is not None and evaluator(e)(assignment) == size
        for e, size in zip(learned.outputs, sizes, strict=True)
    )
