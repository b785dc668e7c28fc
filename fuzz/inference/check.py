"""Rules of a file against the torch that is installed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from graphopt.fuzz.inference import holdout
from graphopt.fuzz.inference.learner import Learned, Learner
from graphopt.fuzz.inference.oracle import Oracle, Undecided
from graphopt.fuzz.inference.partial import PartialOperator
from graphopt.fuzz.inference.sampling import Samples, Walk
from graphopt.fuzz.rules.rule import OperatorRule

TOLERATED = 0.97
"""Of precision, recall and exactness: on a few hundred calls, a rule of 99 % rarely falls below."""


def partial_of(rule: OperatorRule) -> PartialOperator:
    """The partial operator that a rule is about."""
    return PartialOperator(
        overload=rule.overload,
        template=rule.template,
        inputs=rule.inputs,
        attributes=rule.attributes,
        output_ranks=rule.results,
        sources=rule.sources,
        records=tuple(record.values for record in rule.records),
        invalid=(),
    )


def problems(rule: OperatorRule, seed: int = 0) -> list[str]:
    """What torch contradicts in a rule; nothing in one that is right.

    Every record is run again.  Of a usable rule, precision, recall and exactness are measured anew.
    """
    oracle = Oracle(partial_of(rule))
    found = []
    for record in rule.records:
        try:
            sizes = oracle(record.values)
        except Undecided:
            continue
        if sizes != tuple(n for shape in record.shapes for n in shape):
            found.append(f"the record {record.values} gives {sizes}, not {record.shapes}")
    if rule.usable and rule.symbols:
        found += _misjudged(rule, oracle, seed)
    return found


def _misjudged(rule: OperatorRule, oracle: Oracle, seed: int) -> Iterator[str]:
    rng = random.Random(f"{seed} check {rule.key}")
    floors = [low for low, _ in rule.ranges.values()]
    seeds = [record.values for record in rule.records]
    samples = Walk(oracle, seeds, rng, floors).samples
    if not samples.valid:
        yield "no record is valid"
        return
    learner = Learner(oracle, samples, rng, floors)
    figures = holdout.judge(
        Learned(rule.constraints, tuple(e for sizes in rule.outputs for e in sizes)),
        oracle,
        Samples(),
        Walk(oracle, seeds, rng, floors, holdout.SIZES),
        lambda system: learner.propose(system, holdout.SIZES),
        learner.system(rule.constraints),
    )
    for name in ("precision", "recall", "exact"):
        if getattr(figures, name) < TOLERATED:
            calls = f"{figures.valid} valid and {figures.invalid} invalid calls"
            yield f"{name} is {getattr(figures, name):.3f} on {calls}"


def sample(rules: Iterable[OperatorRule], count: int, seed: int) -> list[OperatorRule]:
    """Some of the rules, at random; all of them if there are no more."""
    every = list(rules)
    return every if count >= len(every) else random.Random(seed).sample(every, count)


def check(
    rules: Sequence[OperatorRule], seed: int = 0, progress: Callable[[str], None] = lambda line: None
) -> dict[str, list[str]]:
    """The problems of each rule that has some, by its key."""
    found = {}
    for done, rule in enumerate(rules, 1):
        if wrong := problems(rule, seed):
            found[rule.key] = wrong
        if done % 50 == 0:
            progress(f"{done} of {len(rules)}")
    return found
