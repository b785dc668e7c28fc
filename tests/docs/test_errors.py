"""``docs/errors.md`` explains every code, and every code is used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import graphopt.errors
from graphopt.errors import CODES, GraphoptError

ROOT = Path(__file__).parents[2]
SOURCES = [p for folder in ("graphopt", "passes", "codegen", "fuzz") for p in (ROOT / folder).rglob("*.py")]

pytestmark = pytest.mark.checkout


def _sections() -> dict[str, tuple[str, str]]:
    """Code -> (meaning, explanation)."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    parts = re.split(r"^### (GO-\d{4}): (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        code: (title, body) for code, title, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    }


def test_every_code_is_explained_and_no_other() -> None:
    sections = _sections()
    assert {code: title for code, (title, _) in sections.items()} == CODES
    assert list(sections) == sorted(CODES)
    for code, (_, body) in sections.items():
        assert len(re.split(r"^##", body, flags=re.MULTILINE)[0].split()) > 10, f"{code} is not explained"


def test_codes_stand_below_their_exit_status() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    status = ""
    for line in text.splitlines():
        if found := re.match(r"## (\d): ", line):
            status = found[1]
        elif found := re.match(r"### GO-(\d)", line):
            assert found[1] == status, line


def test_every_code_of_the_source_is_documented_and_used() -> None:
    used: set[str] = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"GO-\d{4}", text)) <= set(CODES), path
        used |= set(re.findall(r'code="(GO-\d{4})"', text))
        used |= {c.default_code for c in _classes() if re.search(rf"\b{c.__name__}\(", text)}
        used |= set(re.findall(r"error\[(GO-\d{4})\]", text))
    assert sorted(set(CODES) - used) == []


def test_classes_are_in_the_table() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for cls in _classes():
        assert f"| {cls.exit_status} | `{cls.__name__}` |" in text


def _classes() -> list[type[GraphoptError]]:
    found = [
        c for c in vars(graphopt.errors).values() if isinstance(c, type) and issubclass(c, GraphoptError)
    ]
    return [c for c in found if c is not GraphoptError]


def test_a_code_must_be_documented_and_fit_its_class() -> None:
    with pytest.raises(ValueError, match="not a documented code"):
        graphopt.errors.InputError("x", code="GO-3999")
    with pytest.raises(ValueError, match="not a documented code of InputError"):
        graphopt.errors.InputError("x", code="GO-2000")
