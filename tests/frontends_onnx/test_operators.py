"""ONNX's own backend tests: a sample of those that are known to pass.

``benchmarks/onnx_conformance.py --ratchet`` runs all of them.
"""

from pathlib import Path

import pytest

from benchmarks.conformance.cases import case
from benchmarks.conformance.ratchet import read_ratchet, sample
from benchmarks.conformance.runner import run_case

PASSING = Path(__file__).parent / "passing.txt"


@pytest.mark.parametrize("entry", sample(read_ratchet(PASSING), one_in=12))
def test_operator(entry: str) -> None:
    suite, _, name = entry.partition("/")
    outcome = run_case(case(suite, name))
    assert outcome.passed, outcome


def test_the_list_is_sorted_and_has_no_doubles() -> None:
    entries = read_ratchet(PASSING)
    assert entries == sorted(set(entries))
    assert len(entries) > 1300
