"""Files appear complete or not at all, whatever ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.errors import InputError
from graphopt.files import atomic_files

NAMED = pytest.mark.parametrize("named", [False, True])


@NAMED
def test_files_are_published_together(tmp_path: Path, named: bool) -> None:
    (tmp_path / "a").write_text("old")
    with atomic_files(tmp_path, named=named) as files:
        files.open("a").write(b"new")
        files.open("b").write(b"other")
        assert (tmp_path / "a").read_text() == "old" and not (tmp_path / "b").exists()
        assert files.readable("b").read_bytes() == b"other"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "new", "b": "other"}


@NAMED
def test_an_error_leaves_nothing(tmp_path: Path, named: bool) -> None:
    with pytest.raises(ZeroDivisionError), atomic_files(tmp_path, named=named) as files:
        files.open("a").write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import os, signal
from graphopt.files import atomic_files
with atomic_files({str(tmp_path)!r}) as files:
    files.open("a").write(b"half" * 100000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@NAMED
def test_files_have_the_usual_permissions(tmp_path: Path, named: bool) -> None:
    (tmp_path / "usual").touch()
    with atomic_files(tmp_path, named=named) as files:
        files.open("a")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for folder, name in ((tmp_path / "missing", "a"), (tmp_path, "folder")):
        with pytest.raises(InputError) as caught, atomic_files(folder) as files:
            files.open(name)
        assert caught.value.code == "GO-3001"
