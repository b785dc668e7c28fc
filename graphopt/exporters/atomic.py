"""Files that appear complete or not at all.

A file is written without a name (Linux ``O_TMPFILE``) and named once it is complete, so that even a
killed process leaves nothing behind.  Where the system or the file system has no such files, a
hidden temporary file stands in; then only a kill, not an error or an interrupt, can leave it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from graphopt.errors import InputError


class AtomicFiles:
    """Several files of one folder that are published together, in the order they were opened.

    Open what other files refer to first: a reader then never finds a reference to a missing file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[tuple[BinaryIO, Path, Path | None]] = []

    def open(self, name: str) -> BinaryIO:
        """A new binary file, readable and seekable, that will become ``folder/name``.

        Raises:
            InputError: the folder does not exist or cannot be written to.
        """
        final = self._folder / name
        if final.is_dir():
            raise InputError(f"cannot write {str(final)!r}: a folder has that name", code="GO-3001")
        try:
            file, hidden = _unnamed(self._folder)
        except OSError as error:
            raise InputError(f"cannot write {str(final)!r}: {error.strerror}", code="GO-3001") from error
        self._open.append((file, final, hidden))
        return file

    def publish(self) -> None:
        """Give every file its name, replacing what had it."""
        ready: list[tuple[Path, Path]] = []
        try:
            for file, final, hidden in self._open:
                file.flush()
                os.fsync(file.fileno())
                if hidden is None:
                    hidden = _hidden_name(final.parent)
                    # Python follows the link in /proc only through linkat, which src_dir_fd selects.
                    descriptor = file.fileno()
                    os.link(f"/proc/self/fd/{descriptor}", hidden, src_dir_fd=descriptor)
                ready.append((hidden, final))
            for hidden, final in ready:
                os.replace(hidden, final)
        except BaseException:
            for hidden, _ in ready:
                hidden.unlink(missing_ok=True)
            raise
        finally:
            self.discard()

    def discard(self) -> None:
        """Close everything; what was not published is gone."""
        for file, _, hidden in self._open:
            file.close()
            if hidden is not None:
                hidden.unlink(missing_ok=True)
        self._open.clear()


@contextlib.contextmanager
def atomic_files(folder: str | os.PathLike[str]) -> Iterator[AtomicFiles]:
    """Publish the files opened in the block when it ends, or none of them if it raises."""
    files = AtomicFiles(Path(folder))
    try:
        yield files
        files.publish()
    finally:
        files.discard()


def _unnamed(folder: Path) -> tuple[BinaryIO, Path | None]:
    flag = getattr(os, "O_TMPFILE", 0)
    if flag and Path("/proc/self/fd").is_dir():
        with contextlib.suppress(OSError):  # not every file system has them; the named file tells
            descriptor = os.open(folder, flag | os.O_RDWR | os.O_CLOEXEC, _mode())
            return cast(BinaryIO, os.fdopen(descriptor, "w+b")), None
    hidden = _hidden_name(folder)
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _mode())
    return cast(BinaryIO, os.fdopen(descriptor, "w+b")), hidden


def _mode() -> int:
    return stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


def _hidden_name(folder: Path) -> Path:
    return folder / f".graphopt-{secrets.token_hex(8)}.tmp"
