"""One model on other machines: aarch64 in qemu, and every level of x86-64 that this CPU has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import cast

import pytest

from benchmarks.c_programs import CProgram
from benchmarks.zoo import MissingRequirement, get
from benchmarks.zoo.model import Model
from graphopt.codegen import compile
from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.verification import verify

_CROSS, _QEMU = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
_MISSING = [tool for tool in (_CROSS, _QEMU) if shutil.which(tool) is None]


def _model(name: str) -> Model:
    try:
        return get(name, size="small")
    except MissingRequirement as missing:
        pytest.skip(str(missing))


@pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}")
def test_the_source_runs_on_aarch64(tmp_path: Path) -> None:
    model = _model("mobilenet-v2")
    program = model.capture(dynamic=False)
    artifact = cast(SourceArtifact, compile(program, "c"))
    built = CProgram(
        artifact, tmp_path / "model", compiler=_CROSS, flags=["-O1", "-static"], launcher=[_QEMU]
    )
    assert built.program.read_bytes()[18:20] == (183).to_bytes(2, "little")  # EM_AARCH64
    verify(program, built, inputs=[model.inputs]).raise_if_failed()


# Registers that a level has not: ymm from v3 on, zmm and masks from v4 on.  And its own widest.
_BEYOND = {"x86-64-v2": r"%[yz]mm|%k[0-7]", "x86-64-v3": r"%zmm|%k[0-7]", "x86-64-v4": r"%tmm"}
_WIDEST = {"x86-64-v2": "%xmm", "x86-64-v3": "%ymm", "x86-64-v4": "%zmm"}


@pytest.mark.parametrize("level", _BEYOND)
def test_a_level_of_x86_64(level: str, tmp_path: Path) -> None:
    model = _model("minilm")
    program = model.capture(dynamic=False)
    artifact = compile(program, level)
    if artifact.target.object_format != "so":
        pytest.skip("no linker for x86-64")
    artifact.save(tmp_path / "model.so")
    if shutil.which("objdump"):
        command = ["objdump", "--disassemble", "--no-show-raw-insn", str(tmp_path / "model.so")]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.findall(_BEYOND[level], code) == []
        assert re.search(_WIDEST[level], code)
    if artifact.target.why_not_here():
        pytest.skip(str(artifact.target.why_not_here()))
    verify(program, artifact, inputs=[model.inputs]).raise_if_failed()
