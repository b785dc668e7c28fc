"""What tuning measured: a file to which lines are added, each a JSON object that stands for itself.

A line is added with one write, so that an interrupt at any moment leaves at most one incomplete line,
at the end; reading skips it, and the next writer begins a new line.  Nothing is ever changed in place:
starting anew adds a line too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from graphopt.codegen.cache import cache_folder
from graphopt.errors import InputError

FILE = "records.jsonl"
VERSION = 1

DEFAULT, FASTER, SLOWER, WRONG, FAILED, INVALID, FORGET = (
    "default", "faster", "slower", "wrong", "failed", "invalid", "forget",
)  # fmt: skip
STATUSES = (DEFAULT, FASTER, SLOWER, WRONG, FAILED, INVALID, FORGET)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        kernel: key of the kernel.
        target: key of the target and the rules (:func:`graphopt.codegen.tuning.kernel.target_key`).
        name: of the kernel in the program it was tuned for.
        status: ``default`` (the default schedule, measured alone), ``faster`` (bit for bit the default's
            result, and faster in two measurements), ``slower`` (also: faster alone, but not in its model),
            ``wrong`` (another result), ``failed`` (it did not build or run), ``invalid`` (choices that
            exclude each other), or ``forget`` (what is known of this kernel no longer counts).
        decisions: the choices that differ from their defaults.
        microseconds: of one call.
        default_microseconds: of one call of the default schedule, measured in turns with it.
        reason: of what is wrong, failed or invalid.
    """

    kernel: str
    target: str
    name: str
    status: str
    decisions: Mapping[str, int] = field(default_factory=dict)
    microseconds: float | None = None
    default_microseconds: float | None = None
    reason: str | None = None

    def to_line(self) -> bytes:
        """The record as a line of the file."""
        facts = {"version": VERSION, **{k: v for k, v in asdict(self).items() if v not in (None, {})}}
        return json.dumps(facts, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Record:
        """Reads what :meth:`to_line` wrote.

        Raises:
            ValueError: it did not, or another version wrote it.
        """
        facts = json.loads(line)
        if not isinstance(facts, dict) or facts.pop("version", None) != VERSION:
            raise ValueError("not a record of this version")
        try:
            record = Record(**facts)
        except TypeError:
            raise ValueError("not the fields of a record") from None
        names = (record.kernel, record.target, record.name, record.status, record.reason or "")
        times = (record.microseconds, record.default_microseconds)
        if not all(isinstance(n, str) for n in names) or record.status not in STATUSES:
            raise ValueError("a field has another type")
        if not all(t is None or (isinstance(t, float | int) and t > 0) for t in times):
            raise ValueError("a time is no positive number")
        if not isinstance(record.decisions, dict) or not all(
            isinstance(v, int) for v in record.decisions.values()
        ):
            raise ValueError("a decision is no integer")
        return record


class TuningDatabase:
    """The records in one folder.

    Args:
        folder: made, for this user alone, when something is added.

    Attributes:
        problems: lines that could not be read, as text for the user.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.problems: list[str] = []
        self._records: dict[str, list[Record]] = {}
        self._read = 0
        self.refresh()

    @staticmethod
    def of_user() -> TuningDatabase | None:
        """The database in the user's cache; None where ``GRAPHOPT_CACHE`` is ``off``."""
        folder = cache_folder()
        return None if folder is None else TuningDatabase(folder / "tuning")

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def refresh(self) -> None:
        """Reads what was added to the file since the last time, by whomever.

        Raises:
            InputError: GO-3001, the file is there and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise InputError(f"cannot read {str(self.path)!r}: {error.strerror}", code="GO-3001") from None
        lines = data.split(b"\n")
        damaged = 0
        for line in lines[:-1]:
            if line.strip():
                try:
                    self._remember(Record.from_line(line))
                except ValueError as error:
                    damaged += 1
                    _log.debug("a line of %s is skipped: %s", self.path, error)
        # What has no end yet may be half of a line that another process writes now.
        self._read += len(data) - len(lines[-1])
        if damaged:
            what = "1 line is" if damaged == 1 else f"{damaged} lines are"
            self.problems.append(f"{what} no record and skipped in {self.path}")

    def add(self, record: Record) -> None:
        """Adds a record to the file.

        Raises:
            InputError: GO-3001, it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked() as file:
                end = file.seek(0, os.SEEK_END)
                cut = b""
                if end:
                    file.seek(end - 1)
                    cut = b"" if file.read(1) == b"\n" else b"\n"
                file.write(cut + record.to_line())
        except OSError as error:
            raise InputError(f"cannot write {str(self.path)!r}: {error.strerror}", code="GO-3001") from error
        self.refresh()

    def of_kernel(self, key: str) -> list[Record]:
        """What is known of a kernel, oldest first."""
        return list(self._records.get(key, ()))

    def default_microseconds(self, key: str) -> float | None:
        """Of a kernel's default schedule, as fast as it ever was; None if it was not measured.

        Whatever else runs on the machine only makes a measurement longer.
        """
        times = [
            r.microseconds if r.status == DEFAULT else r.default_microseconds
            for r in self._records.get(key, ())
        ]
        return min((t for t in times if t is not None), default=None)

    def best(self, key: str) -> Record | None:
        """The fastest schedule of a kernel that is faster than the default; None if there is none.

        Of several records of one schedule the last one counts.
        """
        last = {tuple(sorted(r.decisions.items())): r for r in self._records.get(key, ()) if r.decisions}
        times = {
            r.microseconds: r for r in last.values() if r.status == FASTER and r.microseconds is not None
        }
        default = self.default_microseconds(key)
        if default is None or not times or min(times) >= default:
            return None
        return times[min(times)]

    def best_of_target(self, target: str) -> dict[str, Record]:
        """:meth:`best` of every kernel tuned for a target, by the kernel's key."""
        keys = (key for key, known in self._records.items() if known and known[0].target == target)
        return {key: record for key in keys if (record := self.best(key)) is not None}

    def digest(self, target: str) -> str | None:
        """A name for what :meth:`best_of_target` gives; None if that is nothing."""
        best = {key: dict(sorted(r.decisions.items())) for key, r in self.best_of_target(target).items()}
        return hashlib.sha256(json.dumps(best, sort_keys=True).encode()).hexdigest() if best else None

    def _remember(self, record: Record) -> None:
        if record.status == FORGET:
            self._records.pop(record.kernel, None)
        else:
            self._records.setdefault(record.kernel, []).append(record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file  # type: ignore[misc]


def open_database(chosen: bool | str | os.PathLike[str]) -> TuningDatabase | None:
    """The database that a compilation reads: True is the user's, False none; damaged lines are logged.

    Raises:
        InputError: GO-3001, there is one and it cannot be read.
    """
    if chosen is False:
        return None
    database = TuningDatabase.of_user() if chosen is True else TuningDatabase(chosen)
    for problem in database.problems if database else ():
        _log.warning("%s", problem)
    return database


def no_database() -> InputError:
    """The error for tuning without a place for its results."""
    return InputError(
        "there is no folder for the results of tuning: GRAPHOPT_CACHE is 'off'",
        code="GO-3001",
        hint="name one with --database",
    )


def as_line(value: Any) -> str:
    """Text on one line, at most so long that it is worth keeping."""
    return " ".join(str(value).split())[:300]
