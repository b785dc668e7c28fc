"""Tables print what they are given."""

from __future__ import annotations

import pytest

from graphopt.cli.tables import console, table


@pytest.mark.parametrize("text", ["x: float32[batch, 3, 8, 8]", "pad{sizes=[1,2]}", "layer[0]", ":warning:"])
def test_brackets_and_colons_stay(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console().print(table(text, ("", ""), [("input", text)]))
    assert capsys.readouterr().out.count(text) == 2
