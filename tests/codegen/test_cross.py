"""Artifacts for machines that are not this one: written, inspected, refused to run; and as objects."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from graphopt.codegen import compile, load_artifact, toolchain
from graphopt.codegen.elf import ElfReader, MappedElf
from graphopt.errors import InputError, TargetError
from graphopt.ir.program import Program

MACHINES = {"aarch64": 183, "aarch64-neoverse-n1": 183, "riscv64": 243}


@pytest.mark.parametrize("name", MACHINES)
def test_a_foreign_artifact_is_written_and_not_run(program: Program, tmp_path: Path, name: str) -> None:
    artifact = compile(program, name)
    if artifact.target.object_format != "so":
        pytest.skip(f"no linker for {name} here")
    artifact.save(tmp_path / "model.so")
    with MappedElf(tmp_path / "model.so") as elf:
        assert elf.machine == MACHINES[name]
    loaded = load_artifact(tmp_path / "model.so")
    assert loaded.kernels() and loaded.signature == program.signature
    with pytest.raises(TargetError) as raised:
        loaded(torch.zeros(2, 3, 12, 12))
    assert raised.value.code == "GO-6002"


def test_an_older_level_runs_on_a_newer_cpu(program: Program, tmp_path: Path) -> None:
    artifact = compile(program, "x86-64-v2")
    if artifact.target.why_not_here():
        pytest.skip("this CPU cannot run it")
    artifact.save(tmp_path / "model.so")
    image = torch.randn(1, 3, 12, 12)
    assert torch.equal(load_artifact(tmp_path / "model.so")(image)[0], artifact(image)[0])


@pytest.fixture
def without_linker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find_linker", lambda triple: None)


@pytest.mark.usefixtures("without_linker")
def test_without_a_linker_the_objects_are_kept(program: Program, tmp_path: Path) -> None:
    artifact = compile(program, "aarch64")
    artifact.save(tmp_path / "model.tar")
    with tarfile.open(tmp_path / "model.tar") as tar:
        assert sorted(tar.getnames()) == ["graphopt.json", "kernels0.o", "library.o"]
        member = tar.extractfile("kernels0.o")
        assert member is not None and ElfReader(member.read()).machine == MACHINES["aarch64"]
    with pytest.raises(TargetError, match="no linker for aarch64") as raised:
        artifact.save(tmp_path / "model.so")
    assert raised.value.code == "GO-6001"
    assert not (tmp_path / "model.so").exists()
    with pytest.raises(InputError) as refused:
        load_artifact(tmp_path / "model.tar")
    assert refused.value.code == "GO-3011"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.usefixtures("without_linker")
def test_the_objects_link_to_a_working_artifact(program: Program, tmp_path: Path) -> None:
    compile(program, "cpu").save(tmp_path / "model.tar")
    with tarfile.open(tmp_path / "model.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    command = ["cc", "-shared", "-o", "model.so", "kernels0.o", "library.o", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    code = (
        "import tvm, numpy as np; from tvm import relax;"
        "vm = relax.VirtualMachine(tvm.runtime.load_module('./model.so'), tvm.cpu());"
        "outputs = vm['main'](tvm.runtime.tensor(np.zeros((1, 3, 12, 12), 'float32')));"
        "assert outputs[0].shape == (1, 8, 12, 12)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
