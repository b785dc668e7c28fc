"""Settings, profiles, and how a campaign is cut into chunks."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from graphopt.errors import UsageError
from graphopt.fuzz.campaign import PROFILES, Settings, profile_settings
from graphopt.fuzz.campaign.corpus import NamedCase
from graphopt.fuzz.campaign.plan import Chunk, chunks
from graphopt.fuzz.campaign.sources import chosen_passes
from tests.fuzz.campaign.planted import generate


def test_chunks_hold_every_case_once_and_backends_every_nth() -> None:
    settings = profile_settings("pr", cases=100, backend_every=7)
    found = list(chunks(settings))
    passes = [i for c in found if c.stream == "passes" for i in c.indices]
    assert passes == list(range(100))
    assert [i for c in found if c.stream == "backends" for i in c.indices] == list(range(0, 100, 7))
    assert len({c.key for c in found}) == len(found)


def test_backends_follow_their_cases_when_there_is_no_end() -> None:
    settings = profile_settings("nightly", backend_every=2)
    seen: set[int] = set()
    for chunk in islice(chunks(settings), 40):
        if chunk.stream == "passes":
            seen.update(chunk.indices)
        else:
            assert seen.issuperset(chunk.indices)


def test_given_cases_come_first_and_survive_json() -> None:
    given = [NamedCase(f"n{i}", generate(0, i, ())) for i in range(10)]
    settings = profile_settings("pr", cases=3, known_scripts=True)
    first, second, known, *_ = chunks(settings, given, [("bug", "raise SystemExit(1)")])
    assert first.given == tuple(given[:8]) and second.indices == (8, 9) and second.label(1, 0) == "n9"
    assert known.stream == "known" and known.label(0, 5) == "bug"
    assert [Chunk.from_dict(c.to_dict()) for c in (first, known)] == [first, known]


def test_only_some_cases() -> None:
    settings = profile_settings("pr", only=(9, 4), seed=3, replay=False)
    assert [(c.stream, c.indices) for c in chunks(settings)] == [("passes", (4, 9)), ("backends", (4, 9))]
    assert next(chunks(settings)).label(1, 3) == "3/9"


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_settings(name: str) -> None:
    settings = profile_settings(name)
    assert Settings.from_dict(settings.to_dict()) == settings


def test_a_budget_replaces_that_of_the_profile() -> None:
    assert profile_settings("nightly", cases=5).seconds is None
    assert profile_settings("pr", seconds=5.0).cases is None
    assert profile_settings("pr", seconds=5.0, cases=7).cases == 7
    assert profile_settings("pr", cases=None) == profile_settings("pr")


@pytest.mark.parametrize(
    "changes", [{"seconds": 0.0}, {"timeout": -1.0}, {"backend_every": 0}, {"only": (-1,)}, {"cases": -1}]
)
def test_values_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        profile_settings("pr", **changes)


def test_there_is_no_such_profile() -> None:
    with pytest.raises(UsageError, match="'nightli'") as caught:
        profile_settings("nightli")
    assert caught.value.hint == "did you mean 'nightly'?"


def test_pipelines_are_whole_single_and_mixed() -> None:
    drawn = [chosen_passes(0, i, ()) for i in range(400)]
    assert drawn == [chosen_passes(0, i, ()) for i in range(400)]
    assert 160 < sum(p == ("cleanup",) for p in drawn) < 240
    lengths = Counter(len(p) for p in drawn)
    assert set(lengths) == {1, 2, 3, 4}
    assert {p[0] for p in drawn if len(p) == 1} >= {"dead-code", "canonical-shapes", "fuse-norms"}
    assert {p for i in range(50) for p in chosen_passes(0, i, ("dead-code",))} == {"dead-code"}
