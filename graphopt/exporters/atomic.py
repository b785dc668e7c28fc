"""Files that appear complete or not at all.

A file is written without a name (Linux ``O_TMPFILE``) and named once it is complete, so that even a
killed process leaves nothing behind.  Where the system or the file system has no such files, and
where files that refer to each other are to be read before they are published, a hidden folder stands
in; then only a kill, not an error or an interrupt, can leave it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from graphopt.errors import InputError


class AtomicFiles:
    """Several files of one folder that are published together, in the order they were opened.

    Open what other files refer to first: a reader then never finds a reference to a missing file.
    """

    def __init__(self, folder: Path, *, named: bool) -> None:
        self._folder = folder
        self._staging: Path | None = None
        self._open: list[_Pending] = []
        self._named = named or not getattr(os, "O_TMPFILE", 0) or not Path("/proc/self/fd").is_dir()

    def open(self, name: str) -> BinaryIO:
        """A new binary file, readable and seekable, that will become ``folder/name``.

        Raises:
            InputError: the folder does not exist or cannot be written to.
        """
        final = self._folder / name
        if final.is_dir():
            raise InputError(f"cannot write {str(final)!r}: a folder has that name", code="GO-3001")
        try:
            pending = self._create(final)
        except OSError as error:
            raise InputError(f"cannot write {str(final)!r}: {error.strerror}", code="GO-3001") from error
        self._open.append(pending)
        return pending.file

    def readable(self, name: str) -> Path:
        """A path under which ``name``, opened before, can be read by this process until it is published.

        With ``named`` files its folder also holds the other files, under the names they will have.
        """
        pending = next(p for p in self._open if p.final.name == name)
        pending.file.flush()
        return pending.staged or Path(f"/proc/self/fd/{pending.file.fileno()}")

    def publish(self) -> None:
        """Give every file its name, replacing what had it."""
        try:
            for pending in self._open:
                pending.file.flush()
                os.fsync(pending.file.fileno())
                if pending.staged is None:
                    staged = self._folder / _hidden_name()
                    # Python follows the link in /proc only through linkat, which src_dir_fd selects.
                    descriptor = pending.file.fileno()
                    os.link(f"/proc/self/fd/{descriptor}", staged, src_dir_fd=descriptor)
                    pending.staged = staged
            for pending in self._open:
                assert pending.staged is not None
                os.replace(pending.staged, pending.final)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close everything; what was not published is gone."""
        for pending in self._open:
            pending.file.close()
            if pending.staged is not None:
                pending.staged.unlink(missing_ok=True)
        self._open.clear()
        if self._staging is not None:
            self._staging.rmdir()
            self._staging = None

    def _create(self, final: Path) -> _Pending:
        mode = 0o666  # less the user's umask, as for any file
        if not self._named:
            with contextlib.suppress(OSError):  # not every file system has unnamed files
                flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                return _Pending(_file(os.open(self._folder, flags, mode)), final, None)
        if self._staging is None:
            staging = self._folder / _hidden_name()
            staging.mkdir()
            self._staging = staging
        staged = self._staging / final.name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        return _Pending(_file(os.open(staged, flags, mode)), final, staged)


@dataclass
class _Pending:
    """A file being written, what it will be, and where it is meanwhile (None: it has no name)."""

    file: BinaryIO
    final: Path
    staged: Path | None


@contextlib.contextmanager
def atomic_files(folder: str | os.PathLike[str], *, named: bool = False) -> Iterator[AtomicFiles]:
    """Publish the files opened in the block when it ends, or none of them if it raises.

    Args:
        folder: where the files will be; it must exist.
        named: they must have their names from the start, for a reader that follows references
            between them (:meth:`AtomicFiles.readable`).
    """
    files = AtomicFiles(Path(folder), named=named)
    try:
        yield files
        files.publish()
    finally:
        files.discard()


def _file(descriptor: int) -> BinaryIO:
    return cast(BinaryIO, os.fdopen(descriptor, "w+b"))


def _hidden_name() -> str:
    return f".graphopt-{secrets.token_hex(8)}.tmp"
