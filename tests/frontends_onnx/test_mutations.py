"""A few cases of the campaign of mutated files; ``python -m benchmarks.onnx_mutations`` runs thousands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.checkout
@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_a_hundred_spoilt_files_end_well(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = _python("-m", "benchmarks.onnx_mutations", "--small", "--cases", "100", "--json", str(report))
    assert done.returncode == 0, done.stderr
    verdicts = {case["verdict"] for case in json.loads(report.read_text())["cases"]}
    assert {"agrees", "refused"} <= verdicts <= {"agrees", "refused", "ort-refuses"}


_SANDBOX = """
import sys
from pathlib import Path
from unittest import mock
import graphopt.frontends.onnx
import graphopt.verification
from benchmarks.onnx_mutations import sandbox
from graphopt.errors import InputError

folder, outside = Path(sys.argv[1]), Path(sys.argv[2])
sandbox.SECONDS, sandbox.RESIDENT = 1, 1 << 27

def load(path):
    try:
        exec(statement)
    except MemoryError as error:
        raise InputError(f"MemoryError: {error}") from error
    raise InputError("refused")

with mock.patch("graphopt.load", load):
    for statement in sys.argv[3:]:
        print(sandbox.run(folder / "model.onnx", outside).verdict)
"""


@pytest.mark.checkout
@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
def test_the_sandbox_sees_what_it_looks_for(tmp_path: Path) -> None:
    """The campaign would be worthless if its sandbox missed what a bad importer does."""
    wrong = {
        "pass": "refused",
        "open(outside / 'secret.bin').close()": "outside",
        "open('/etc/hostname').close()": "outside",
        "import ctypes; ctypes.CDLL(None).open(bytes(outside / 'secret.bin'), 0)": "outside",
        "import ctypes; ctypes.string_at(0)": "crash",
        "raise KeyError('x')": "crash",
        "import numpy; numpy.ones(2**40)": "memory",
        "data = bytearray(b'x') * (1 << 28)": "memory",
        "while True: pass": "hang",
    }
    for name in ("model", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "model.onnx").touch()
    (tmp_path / "outside" / "secret.bin").write_bytes(bytes(8))
    folders = [str(tmp_path / "model"), str(tmp_path / "outside")]
    done = _python("-c", _SANDBOX, *folders, *wrong)
    assert done.stdout.split() == list(wrong.values()), done.stderr


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python that has the checkout's ``benchmarks``; the sandbox forks, which this process must not."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True
    )
