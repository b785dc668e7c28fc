"""A sample of the self-check: planted mistakes are found, and unchanged code gives no alarm.

``python -m benchmarks.fuzz_selfcheck`` is all of it.
"""

from __future__ import annotations

import pytest

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.oracles import Subject
from graphopt.fuzz.selfcheck import Hunter, all_variants, generated, uniform
from graphopt.fuzz.selfcheck.hunt import oracles_of, problems

CASES = 20
HUNTER = Hunter(generated(0))

SAMPLE = [
    ("output-dropped", "invariants"),
    ("output-renamed", "invariants"),
    ("growth-without-end", "fixpoint"),
    ("calls-equal-by-their-first-operands", "contract"),
    ("input-mutated", "invariants"),
    ("border-of-zeros", "compiled-cpu"),
]


@pytest.mark.parametrize(("name", "oracle"), SAMPLE, ids=[name for name, _ in SAMPLE])
def test_a_planted_mistake_is_found(name: str, oracle: str) -> None:
    variant = all_variants()[name]
    catch = HUNTER.hunt(variant, min(variant.within, CASES))
    assert catch.cases is not None and catch.problem is not None
    assert catch.problem.signature.oracle == oracle, catch.problem


def test_unchanged_code_gives_no_alarm() -> None:
    source = generated(0)
    for index in range(6):
        case = source(index)
        assert case is not None
        assert list(problems(case, oracles_of("passes"))) == []


def test_every_mistake_can_be_planted_and_is_taken_back() -> None:
    """What a patch names is there; a case that some right passes rewrite is rewritten as before."""
    case = generated(0)(3)
    assert case is not None
    before = run(case)
    variants = all_variants()
    assert len(variants) >= 60
    for variant in variants.values():
        with variant.planted():
            pass
    assert run(case) == before


def run(case: FuzzCase) -> str:
    program = Subject(case).outcome.program
    assert program is not None
    return str(program)


def test_uniform_generation_is_deterministic_and_mostly_invalid() -> None:
    source = uniform(0)
    cases = [source(i) for i in range(30)]
    assert [source(i) for i in range(30)] == cases
    assert 0 < sum(c is not None for c in cases) < 15
