"""The table in the documentation is the registry's."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.dialect.registry import all_ops
from graphopt.dialect.table import markdown_table, with_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "dialect.md"


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == with_table(text), "run: python -m graphopt.dialect.table docs/dialect.md"


def test_the_table_has_every_op() -> None:
    table = markdown_table()
    for op in all_ops():
        assert f"| `{op.name}` |" in table
        assert f"`graphopt::{op.name}{op.schema}`" in table


def test_a_document_without_markers_is_rejected() -> None:
    with pytest.raises(ValueError, match="lacks"):
        with_table("# no table here")
