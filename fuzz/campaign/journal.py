"""A campaign on disk while it runs, so that another process can go on with it.

``journal.jsonl`` holds the settings in its first line, and the result of a chunk in every other one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from graphopt.errors import InputError
from graphopt.fuzz.campaign.corpus import NamedCase
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.settings import Settings

NAME = "journal.jsonl"
_SCHEMA = "graphopt.fuzz.journal/1"


class Journal:
    """Appends results.

    Args:
        folder: exists.
        settings: of the campaign; written when the journal is new.
        corpus: cases that it runs first.
    """

    def __init__(self, folder: Path, settings: Settings, corpus: Sequence[NamedCase]) -> None:
        path = folder / NAME
        new = not path.exists()
        try:
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {str(path)!r}: {error.strerror}", code="GO-3001") from error
        if new:
            cases = [case.to_dict() for case in corpus]
            self._write({"schema": _SCHEMA, "settings": settings.to_dict(), "corpus": cases})

    def append(self, result: ChunkResult) -> None:
        self._write(result.to_dict())

    def close(self) -> None:
        self._file.close()

    def _write(self, data: dict[str, Any]) -> None:
        self._file.write(json.dumps(data, default=str) + "\n")
        self._file.flush()


def read_journal(folder: Path) -> tuple[Settings, list[NamedCase], list[ChunkResult]]:
    """The settings, the corpus and the results so far.

    A last line that was cut off, when the process was killed, is dropped from the file.

    Raises:
        InputError: GO-3001, there is no journal; GO-3000, it is damaged.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"there is no campaign to resume in {str(folder)!r}: {error.strerror}", code="GO-3001"
        ) from error
    whole, newline, _ = data.rpartition(b"\n")
    try:
        first, *lines = [json.loads(line) for line in whole.decode().split("\n")]
        if first["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {first['schema']!r}")
        settings = Settings.from_dict(first["settings"])
        corpus = [NamedCase.from_dict(case) for case in first["corpus"]]
        found = settings, corpus, [ChunkResult.from_dict(line) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is no journal of a campaign: {error}") from error
    if len(whole + newline) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole + newline))
    return found
