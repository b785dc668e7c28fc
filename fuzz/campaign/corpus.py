"""The corpus: cases in files, one each, that every campaign runs before anything else.

A file holds what the case guards against in words, and the case::

    {"schema": "graphopt.fuzz.case/1", "about": "...", "case": {"graph": {...}, "passes": [...]}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import InputError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.reduction.folder import CASE_SCHEMA, read_case


@dataclass(frozen=True)
class NamedCase:
    """A case that is given, not generated; ``name`` is that of its file."""

    name: str
    case: FuzzCase

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "case": self.case.to_dict()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> NamedCase:
        return NamedCase(data["name"], FuzzCase.from_dict(data["case"]))


def corpus_folder() -> Path:
    """The corpus that comes with graphopt: cases that once failed."""
    import graphopt.fuzz

    return Path(graphopt.fuzz.__file__).parent / "corpus"


def read_corpus(folder: str | os.PathLike[str]) -> tuple[NamedCase, ...]:
    """The cases of a folder, sorted by name.

    Raises:
        InputError: GO-3001, there is no such folder; GO-3000, a file is no case.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}", code="GO-3001")
    return tuple(NamedCase(path.stem, read_case(path)) for path in sorted(folder.glob("*.json")))


def case_text(case: FuzzCase, about: str) -> str:
    """The contents of a file of the corpus."""
    return json.dumps({"schema": CASE_SCHEMA, "about": about, "case": case.to_dict()}, indent=1) + "\n"
