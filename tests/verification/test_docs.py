"""The code blocks of docs/verification.md run, in order, as one session."""

from __future__ import annotations

import re
from pathlib import Path


def test_blocks_run() -> None:
    text = (Path(__file__).parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 4
    session: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/verification.md", "exec"), session)
