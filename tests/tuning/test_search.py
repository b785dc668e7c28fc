"""What the tuner tries next: every point once, and first where it is likely to be good."""

from __future__ import annotations

import itertools
import random

from graphopt.codegen.schedules.decisions import Choice
from graphopt.codegen.tuning.search import Point, point, propose, size

SPACE = {"rows": Choice(4, (1, 2, 4, 8)), "order": Choice(0, (0, 1, 2)), "parallel": Choice(1, (0, 1))}


def test_every_point_but_the_default_is_proposed_once() -> None:
    generator, tried = random.Random(0), set[Point]()
    while (decisions := propose(SPACE, tried, {}, generator)) is not None:
        found = point(SPACE, decisions)
        assert found not in tried and found != ()
        assert dict(found) == decisions, "defaults are not written down"
        tried.add(found)
    everything = itertools.product(*(c.options for c in SPACE.values()))
    assert tried == {point(SPACE, dict(zip(SPACE, values, strict=True))) for values in everything} - {()}
    assert len(tried) == size(SPACE) - 1


def test_most_proposals_are_next_to_the_best() -> None:
    best = {"rows": 8, "order": 2, "parallel": 0}
    near = 0
    for seed in range(200):
        decisions = propose(SPACE, set(), best, random.Random(seed))
        assert decisions is not None
        full = {name: decisions.get(name, choice.default) for name, choice in SPACE.items()}
        near += sum(full[name] != best[name] for name in SPACE) <= 2
    assert near > 130


def test_nothing_is_proposed_where_there_is_nothing_to_choose() -> None:
    assert propose({}, set(), {}, random.Random(0)) is None
    assert propose({"a": Choice(0, (0,))}, set(), {}, random.Random(0)) is None
