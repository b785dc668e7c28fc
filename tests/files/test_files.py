"""Files that appear complete or not at all, and paths that are checked before the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphopt.errors import InputError
from graphopt.files import atomic_files, check_output, copy_atomically, existing_file, write_atomically

UNNAMED = hasattr(os, "O_TMPFILE")


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_files(tmp_path) as files:
        files.open("a.bin").write(b"one")
        if UNNAMED:
            assert os.listdir(tmp_path) == []
    assert (tmp_path / "a.bin").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("named", [False, True])
def test_files_of_one_block_appear_together_or_not_at_all(tmp_path: Path, named: bool) -> None:
    (tmp_path / "model").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_files(tmp_path, named=named) as files:
        files.open("weights").write(b"new")
        files.open("model").write(b"new")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_bytes() == b"old"
    with atomic_files(tmp_path, named=named) as files:
        files.open("weights").write(b"new")
        files.open("model").write(b"new")
        assert files.readable("model").read_bytes() == b"new"
        assert (tmp_path / "model").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["model", "weights"]
    assert (tmp_path / "model").read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"code")
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "plain", b"")
        copy_atomically(tmp_path / "source", tmp_path / "code.so", 0o755)
    finally:
        os.umask(before)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "code.so").stat().st_mode & 0o777 == 0o750


def test_what_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    """Replacing /dev/null by a file would be a lasting surprise."""
    reader, writer = os.pipe()
    try:
        write_atomically(f"/proc/self/fd/{writer}", b"report")
        assert os.read(reader, 100) == b"report"
    finally:
        os.close(reader)
        os.close(writer)
    write_atomically("/dev/null", b"x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(InputError, match="not a regular file"):
        copy_atomically(Path(__file__), Path("/dev/null"))


def test_a_failed_copy_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "model.so").write_bytes(b"old")
    with pytest.raises(InputError, match="cannot read") as raised:
        copy_atomically(tmp_path / "absent", tmp_path / "model.so")
    assert raised.value.code == "GO-3001"
    assert (tmp_path / "model.so").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.so"]


def test_a_full_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_atomically(tmp_path / "model", b"data")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not UNNAMED, reason="files without a name are Linux's")
def test_a_killed_copy_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "pipe"
    os.mkfifo(source)
    target = tmp_path / "out"
    target.mkdir()
    code = (
        "from pathlib import Path; from graphopt.files import copy_atomically;"
        f"copy_atomically(Path({str(source)!r}), Path({str(target / 'model.so')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    with source.open("wb") as pipe:  # Opens once the copy has begun to read.
        pipe.write(b"half")
        pipe.flush()
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(target) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent", "no file"), ("", "is a folder"), ("a" * 300, "no file"), ("pipe", "not a regular file")],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=words) as raised:
        existing_file(tmp_path / name)
    assert raised.value.code == "GO-3001"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("model.txt", "GO-3002", r"must be \.onnx or \.pt2"),
        ("absent/model.onnx", "GO-3001", "there is no folder"),
        ("folder.onnx", "GO-3001", "a folder has that name"),
        ("pipe.onnx", "GO-3001", "not a regular file"),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path: Path, name: str, code: str, words: str) -> None:
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=words) as raised:
        check_output(tmp_path / name, (".onnx", ".pt2"))
    assert raised.value.code == code


def test_an_output_may_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert check_output(tmp_path / "model.onnx", (".onnx",)) == tmp_path / "model.onnx"
