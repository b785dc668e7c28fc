"""Textual specifications of passes: round trips, and errors that point at the place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt import Pass, UsageError
from graphopt.passmanager.spec import PassSpec, format_pipeline, parse_pipeline

names = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True)
keys = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True).filter(lambda k: not k.endswith("_"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
values = scalars | st.lists(scalars, max_size=4).map(tuple)


@given(st.lists(st.builds(PassSpec, names, st.dictionaries(keys, values, max_size=4)), max_size=4))
def test_round_trip(pipeline: list[PassSpec]) -> None:
    assert parse_pipeline(format_pipeline(pipeline)) == pipeline


def test_reading() -> None:
    text = 'cleanup, prune{sparsity=0.5, norm = l2,layers=[a.b,"c d"],exact=true,limit=none}'
    assert parse_pipeline(text) == [
        PassSpec("cleanup"),
        PassSpec(
            "prune", {"sparsity": 0.5, "norm": "l2", "layers": ("a.b", "c d"), "exact": True, "limit": None}
        ),
    ]


@pytest.mark.parametrize(
    ("text", "words", "column"),
    [
        ("a,", "expected the name of a pass", 3),
        ("a b", "expected ','", 3),
        ("a{x}", "expected '='", 4),
        ("a{x=}", "expected a value", 5),
        ("a{x=1", "expected ','", 6),
        ("a{x=1,x=2}", "given twice", 8),
        ("a{x=[1}", "expected ','", 7),
        ('a{x="b}', "unexpected '\"'", 5),
    ],
)
def test_errors_point_at_the_place(text: str, words: str, column: int) -> None:
    with pytest.raises(UsageError, match=words.replace("'", ".").replace('"', ".")) as caught:
        parse_pipeline(text)
    assert caught.value.code == "GO-2004"
    assert f"column {column}" in caught.value.message


@dataclass(frozen=True)
class Prune(Pass):
    """Removes channels."""

    name = "prune"
    sparsity: float = 0.5
    norm: Literal["l1", "l2"] = "l2"
    layers: tuple[str, ...] = ()
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError("sparsity must be in [0, 1)")

    def apply(self, program: Any, context: Any) -> Any:
        return program


@pytest.mark.parametrize(
    "item", [Prune(), Prune(0.25, "l1"), Prune(layers=("a", "b.c"), limit=3), Prune(sparsity=0.0)]
)
def test_passes_round_trip(item: Prune) -> None:
    (spec,) = parse_pipeline(str(item))
    assert Prune.from_spec(spec) == item


def test_defaults_are_left_out() -> None:
    assert str(Prune()) == "prune"
    assert str(Prune(limit=3)) == "prune{limit=3}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prune{sparsty=0.5}", "no option 'sparsty'"),
        ("prune{sparsity=high}", "must be float, not 'high'"),
        ("prune{sparsity=2}", r"sparsity must be in \[0, 1\)"),
        ("prune{norm=l3}", "must be"),
        ("prune{layers=[1]}", "must be"),
        ("prune{limit=true}", "must be"),
    ],
)
def test_options_are_checked(text: str, words: str) -> None:
    (spec,) = parse_pipeline(text)
    with pytest.raises(UsageError, match=words) as caught:
        Prune.from_spec(spec)
    assert caught.value.code == "GO-2002"


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        Prune.from_spec(PassSpec("prune", {"sparsty": 0.5}))
    assert caught.value.hint == "did you mean 'sparsity'?"


def test_whole_numbers_are_floats_where_floats_are_wanted() -> None:
    assert Prune.from_spec(PassSpec("prune", {"sparsity": 0})).sparsity == 0.0  # type: ignore[attr-defined]
