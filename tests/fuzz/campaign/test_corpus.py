"""The corpus that comes with graphopt stays green; backends see it in ``make fuzz``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.fuzz.campaign.corpus import NamedCase, case_text, corpus_folder, read_corpus
from graphopt.fuzz.oracles import Subject, pass_oracles
from graphopt.fuzz.reduction import read_case

CORPUS = read_corpus(corpus_folder())


def test_there_are_cases_and_each_says_what_it_is_for() -> None:
    assert len(CORPUS) >= 40
    assert len({case.case.graph.digest() for case in CORPUS}) == len(CORPUS)
    for path in corpus_folder().glob("*.json"):
        about = json.loads(path.read_text())["about"]
        assert about.endswith(".") and len(about) > 15, path


@pytest.mark.parametrize("given", CORPUS, ids=lambda given: given.name)
def test_passes_keep_their_promises_on_cases_that_once_failed(given: NamedCase) -> None:
    subject = Subject(given.case)
    problems = [p for o in pass_oracles() if o.applies(subject) for p in o.check(subject)]
    assert [f"{p.signature}: {p.message}" for p in problems] == []


def test_a_case_is_written_as_it_is_read(tmp_path: Path) -> None:
    given = CORPUS[0]
    (tmp_path / f"{given.name}.json").write_text(case_text(given.case, "why"))
    assert read_case(tmp_path / f"{given.name}.json") == given.case
    assert read_corpus(tmp_path) == (given,)
