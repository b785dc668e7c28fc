"""Every rule on its templates: fires on positives, refuses near misses, computes the same.

``GRAPHOPT_UPDATE_GOLDEN=1`` rewrites the golden files, which hold the first positive case of each
rule before and after; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.fuzz.templates import all_templates, failures, try_case
from graphopt.passes.cleanup.families import all_rules

GOLDEN = Path(__file__).parent / "golden"
RULES = all_rules()
TEMPLATES = all_templates()


def test_every_rule_has_a_template_and_every_template_a_rule() -> None:
    assert set(TEMPLATES) == set(RULES)


def test_no_golden_file_is_left_over() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_on_its_template(name: str) -> None:
    assert list(failures(RULES[name], TEMPLATES[name])) == []


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_golden(name: str) -> None:
    case = TEMPLATES[name].positive[0]
    trial = try_case(RULES[name], case, verified=False)
    head = f"# {name}: {case.words}\n# {RULES[name].description}\n\n"
    text = f"{head}{trial.before.text()}\n->\n\n{trial.after.text()}"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GRAPHOPT_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
    assert any(event.rule == name for event in trial.after.provenance.events)
