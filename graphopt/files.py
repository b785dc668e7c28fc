"""Files: those that must be there, and those that appear complete or not at all.

Nothing here is imported that takes time: the command line checks paths before it loads anything else.

A file is written without a name (Linux ``O_TMPFILE``) and named once it is complete, so that even a
killed process leaves nothing behind.  Where the system or the file system has no such files, and
where files that refer to each other are to be read before they are published, a hidden folder stands
in; then only a kill, not an error or an interrupt, can leave it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from graphopt.errors import InputError


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path, if a readable file is there.

    Raises:
        InputError: GO-3001.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder, not a file", code="GO-3001")
        if not path.exists():
            raise InputError(f"there is no file {str(path)!r}", code="GO-3001")
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise InputError(f"there is no file {str(path)!r}: {error}", code="GO-3001") from None
    if not path.is_file():
        raise InputError(f"{str(path)!r} is not a regular file", code="GO-3001")
    if not os.access(path, os.R_OK):
        raise InputError(f"{str(path)!r} cannot be read: permission denied", code="GO-3001")
    return path


def check_output(path: str | os.PathLike[str], suffixes: Sequence[str] = ()) -> Path:
    """The path, if a file can be written there; called before the work, not after it.

    Args:
        path: the file to write.
        suffixes: that it may have; empty: any.

    Raises:
        InputError: GO-3001, the folder is missing or not writable, or something that is no regular
            file has that name; GO-3002, the suffix is not one of ``suffixes``.
    """
    path = Path(path)
    problem = None
    if suffixes and path.suffix not in suffixes:
        raise InputError(
            f"cannot write {str(path)!r}: its suffix must be {' or '.join(suffixes)}", code="GO-3002"
        )
    if path.is_dir():
        problem = "a folder has that name"
    elif path.exists() and not path.is_file():
        problem = "it is not a regular file"
    elif not path.parent.is_dir():
        problem = f"there is no folder {str(path.parent)!r}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        problem = f"the folder {str(path.parent)!r} is not writable"
    if problem:
        raise InputError(f"cannot write {str(path)!r}: {problem}", code="GO-3001")
    return path


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """The path, if a new folder can be written there; called before the work, not after it.

    Raises:
        InputError: GO-3001, something has that name that is not an empty folder, or the folder around it
            is missing or not writable.
    """
    path = Path(path)
    problem = None
    if path.is_dir():
        if any(path.iterdir()):
            problem = "the folder is not empty"
    elif path.exists() or path.is_symlink():
        problem = "it is not a folder"
    if problem is None and not path.absolute().parent.is_dir():
        problem = f"there is no folder {str(path.parent)!r}"
    elif problem is None and not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        problem = f"the folder {str(path.parent)!r} is not writable"
    if problem:
        raise InputError(f"cannot write {str(path)!r}: {problem}", code="GO-3001")
    return path


def write_folder_atomically(path: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Writes a folder that appears with all its files or not at all.

    Args:
        path: the folder; it is not there yet, or empty.
        files: contents by name.

    Raises:
        InputError: GO-3001, it cannot be written.
    """
    path = check_output_folder(path).absolute()
    staging = path.parent / _hidden_name()
    try:
        staging.mkdir()
        for name, contents in files.items():
            with (staging / name).open("xb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        if path.is_dir():
            path.rmdir()
        staging.rename(path)
    except OSError as error:  # the disk is full, someone else was faster
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}", code="GO-3001") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes one file in one step.  What is no file (``/dev/null``, a pipe) is written to as it is.

    Raises:
        InputError: GO-3001, it cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    with atomic_files(path.parent) as files:
        files.open(path.name).write(data)


def copy_atomically(source: Path, destination: Path, mode: int = 0o666) -> None:
    """Copies a file so that ``destination`` is at no time half-written.

    Args:
        mode: permissions, less the user's umask.

    Raises:
        InputError: GO-3001, the source cannot be read or the destination cannot be written.
    """
    try:
        data = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {str(source)!r}: {error.strerror}", code="GO-3001") from error
    with data, atomic_files(destination.parent) as files:
        shutil.copyfileobj(data, files.open(destination.name, mode), 1 << 24)


class AtomicFiles:
    """Several files of one folder that are published together, in the order they were opened.

    Open what other files refer to first: a reader then never finds a reference to a missing file.
    """

    def __init__(self, folder: Path, *, named: bool) -> None:
        self._folder = folder
        self._staging: Path | None = None
        self._open: list[_Pending] = []
        self._named = named or not getattr(os, "O_TMPFILE", 0) or not Path("/proc/self/fd").is_dir()

    def open(self, name: str, mode: int = 0o666) -> BinaryIO:
        """A new binary file, readable and seekable, that will become ``folder/name``.

        Args:
            mode: permissions, less the user's umask.

        Raises:
            InputError: GO-3001, as :func:`check_output`.
        """
        final = check_output(self._folder / name)
        try:
            pending = self._create(final, mode)
        except OSError as error:
            raise InputError(f"cannot write {str(final)!r}: {error.strerror}", code="GO-3001") from error
        self._open.append(pending)
        return pending.file

    def readable(self, name: str) -> Path:
        """A path under which ``name``, opened before, can be read by this process until it is published.

        With ``named`` files its folder also holds the other files, under the names they will have.
        """
        pending = next(p for p in self._open if p.final.name == name)
        for each in self._open:  # the reader may follow references to the others
            each.file.flush()
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
        except OSError as error:  # the disk is full, the folder is gone
            raise InputError(
                f"cannot write {str(pending.final)!r}: {error.strerror}", code="GO-3001"
            ) from error
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

    def _create(self, final: Path, mode: int) -> _Pending:
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
