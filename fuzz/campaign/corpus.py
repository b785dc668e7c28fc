"""The corpus: cases in files, one each, that every campaign runs before anything else.

A file holds what the case guards against in words, and the case::

    {"schema": "graphopt.fuzz.case/1", "about": "...", "case": {"graph": {...}, "passes": [...]}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from graphopt.errors import InputError
from graphopt.fuzz.cases import FuzzCase

SCHEMA = "graphopt.fuzz.case/1"


def corpus_folder() -> Path:
    """The corpus that comes with graphopt: cases that once failed."""
    import graphopt.fuzz

    return Path(graphopt.fuzz.__file__).parent / "corpus"


def corpus_files(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The files of a corpus, sorted by name; each is read once, to find the broken ones before the work.

    Raises:
        InputError: GO-3001, there is no such folder; GO-3000, a file is no case.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}", code="GO-3001")
    files = tuple(str(path) for path in sorted(folder.glob("*.json")))
    for file in files:
        read_case(file)
    return files


def read_case(file: str | os.PathLike[str]) -> FuzzCase:
    """The case in a file.

    Raises:
        InputError: GO-3001, it cannot be read; GO-3000, it is no case.
    """
    path = Path(file)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA!r}")
        return FuzzCase.from_dict(data["case"])
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", code="GO-3001") from error
    except (ValueError, KeyError) as error:  # no JSON, or JSON of something else
        raise InputError(f"{str(path)!r} holds no case of the fuzzer: {error}") from error


def case_text(case: FuzzCase, about: str) -> str:
    """The contents of a file of the corpus."""
    return json.dumps({"schema": SCHEMA, "about": about, "case": case.to_dict()}, indent=1) + "\n"
