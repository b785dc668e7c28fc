"""The list of tests that pass, which may only grow."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

_HEADER = """\
# Backend tests of the onnx package that pass: suite/name, sorted.  Each must go on passing:
#   python -m benchmarks.onnx_conformance --ratchet FILE          fails when one does not
#   python -m benchmarks.onnx_conformance --update-ratchet FILE   adds those that pass by now
"""


def read_ratchet(path: Path) -> list[str]:
    """The entries of a list, in its order."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def write_ratchet(path: Path, passing: Iterable[str]) -> None:
    path.write_text(_HEADER + "".join(f"{entry}\n" for entry in sorted(set(passing))))


def sample(entries: Iterable[str], one_in: int) -> list[str]:
    """Every so-many-th entry by a hash of its name: adding a test moves no other in or out."""
    return [e for e in entries if zlib.crc32(e.encode()) % one_in == 0]


def lost(entries: Iterable[str], passing: Collection[str]) -> list[str]:
    """Entries that no longer pass."""
    return [e for e in entries if e not in passing]
