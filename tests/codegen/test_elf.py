"""The ELF reader and writer, against binutils and against damage."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from graphopt.codegen.elf import DataSection, ElfError, ElfReader, write_data_object


def _object(path: Path, architecture: str = "x86_64") -> bytes:
    sections = [DataSection(".lrodata", b"weights", "blob"), DataSection(".note", b"{}")]
    write_data_object(path, architecture, sections)
    return path.read_bytes()


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "riscv64"])
def test_objects_hold_what_was_written(tmp_path: Path, architecture: str) -> None:
    elf = ElfReader(_object(tmp_path / "a.o", architecture))
    assert elf.section(".lrodata") == b"weights"
    assert elf.section(".note") == b"{}"
    assert elf.section(".absent") is None
    assert [(s.name, s.size) for s in elf.symbols() if s.name] == [("blob", 7)]


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_readelf_agrees(tmp_path: Path) -> None:
    _object(tmp_path / "a.o")
    done = subprocess.run(["readelf", "-SsW", tmp_path / "a.o"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert " blob" in done.stdout and ".lrodata" in done.stdout


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"PK\x03\x04" + bytes(100), b"\x7fELF\x01\x01" + bytes(100)]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ElfError):
        ElfReader(data)


def test_every_truncation_and_every_flipped_byte_of_the_tables_is_survived(tmp_path: Path) -> None:
    data = _object(tmp_path / "a.o")
    for size in range(len(data)):
        with pytest.raises(ElfError):
            ElfReader(data[:size])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        try:
            elf = ElfReader(bytes(damaged))
            list(elf.symbols())
        except ElfError:
            continue
