"""The folder: what is in it, that it stands alone, what it says when it is used wrongly."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from graphopt.codegen import compile
from graphopt.codegen.csource import artifact as source_artifact
from graphopt.codegen.csource.artifact import SourceArtifact, build_library
from graphopt.errors import InputError, TargetError
from graphopt.ir.program import Program
from tests.csource.conftest import needs_compiler

FILES = {"Makefile", "README.md", "graphopt.json", "main.c", "model.c", "model.h", "weights.S", "weights.bin"}


def test_the_files(folder: Path, program: Program) -> None:
    assert {p.name for p in folder.iterdir()} == FILES
    described = json.loads((folder / "graphopt.json").read_text())
    assert described["target"]["name"] == "c" and described["sizes"] == ["batch"]
    assert described["signature"] == program.signature.to_dict()
    assert {k["name"] for k in described["kernels"]} == set(
        re.findall(r"KERNEL void (\w+)\(", (folder / "model.c").read_text())
    )


def test_nothing_of_tvm_is_needed(folder: Path) -> None:
    text = "".join(path.read_text() for path in folder.glob("*.[ch]"))
    included = set(re.findall(r"#include [<\"](.+)[>\"]", text))
    assert included == {
        "model.h", "math.h", "stdlib.h", "string.h", "stddef.h", "stdint.h", "stdio.h", "time.h"
    }  # fmt: skip


def test_equal_programs_give_equal_folders(program: Program, artifact: SourceArtifact) -> None:
    assert cast(SourceArtifact, compile(program, "c")).files == artifact.files


@needs_compiler
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_readme_works(folder: Path, artifact: SourceArtifact, tmp_path: Path) -> None:
    work = tmp_path / "model"
    shutil.copytree(folder, work)
    (command,) = re.findall(r"```sh\n(.+)\n```", (work / "README.md").read_text())
    assert command == (
        "make && ./example BATCH INPUT0.bin OUTPUT0.bin OUTPUT1.bin OUTPUT2.bin OUTPUT3.bin OUTPUT4.bin"
    )
    image = torch.randn(2, 3, 12, 12)
    (work / "INPUT0.bin").write_bytes(image.numpy().tobytes())
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", command.replace("BATCH", "2")], cwd=work, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    found = torch.frombuffer(bytearray((work / "OUTPUT1.bin").read_bytes()), dtype=torch.float32)
    assert torch.equal(found.reshape(2, 8, 144), artifact(image)[1])
    refused = subprocess.run(
        ["./example", "17", *command.split()[4:]], cwd=work, capture_output=True, text=True, env=environment
    )
    assert refused.returncode == 1 and "another length" in refused.stderr


@pytest.fixture(scope="module")
def library(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    work = tmp_path_factory.mktemp("library") / "model"
    shutil.copytree(folder, work)
    return ctypes.CDLL(str(build_library(work)))


def _pointers(count: int, buffer: Any) -> Any:
    return (ctypes.c_void_p * count)(*[ctypes.addressof(buffer)] * count)


@needs_compiler
def test_status_codes(library: ctypes.CDLL, folder: Path) -> None:
    codes = dict(re.findall(r"#define (MODEL_\w+) (\d+)", (folder / "model.h").read_text()))
    memory = ctypes.create_string_buffer(1 << 20)
    inputs, outputs = _pointers(1, memory), _pointers(5, memory)
    batch = ctypes.c_int64
    for size in (0, -1, 17):
        assert library.model_run(batch(size), inputs, outputs) == int(codes["MODEL_BAD_SIZE"])
        assert library.model_run_in(batch(size), inputs, outputs, memory) == int(codes["MODEL_BAD_SIZE"])
    outputs[3] = None
    assert library.model_run(batch(1), inputs, outputs) == int(codes["MODEL_NULL"])
    assert library.model_run_in(batch(1), inputs, _pointers(5, memory), None) == int(codes["MODEL_NULL"])


@needs_compiler
def test_what_the_library_says_about_itself(library: ctypes.CDLL, program: Program) -> None:
    outputs = program.signature.outputs
    names = (ctypes.c_char_p * len(outputs)).in_dll(library, "model_output_names")
    types = (ctypes.c_char_p * len(outputs)).in_dll(library, "model_output_types")
    assert [n.decode() for n in names] == [s.name for s in outputs]
    assert [t.decode() for t in types] == ["float32"] * len(outputs)
    library.model_output_bytes.restype = library.model_workspace_size.restype = ctypes.c_size_t
    for index, spec in enumerate(outputs):
        shape = (ctypes.c_int64 * 16)()
        rank = library.model_output_shape(ctypes.c_int64(5), index, shape)
        expected = program.signature.resolve(spec.shape, {"batch": 5})
        assert tuple(shape[:rank]) == expected
        size = library.model_output_bytes(ctypes.c_int64(5), index)
        assert size == 4 * torch.Size(expected).numel()
    one, five = (library.model_workspace_size(ctypes.c_int64(n)) for n in (1, 5))
    assert 0 < one < five


def test_a_folder_with_something_in_it_is_not_touched(artifact: SourceArtifact, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, words in (("full", "not empty"), ("file", "not a folder"), ("absent/model", "no folder")):
        with pytest.raises(InputError, match=words) as refused:
            artifact.save(tmp_path / name)
        assert refused.value.code == "GO-3001"
    with pytest.raises(InputError) as refused:
        artifact.save(tmp_path / "model.so")
    assert refused.value.code == "GO-3002"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "notes.txt"]


def test_an_empty_folder_is_filled(artifact: SourceArtifact, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    artifact.save(tmp_path / "empty")
    assert {p.name for p in (tmp_path / "empty").iterdir()} == FILES


def test_an_interrupt_leaves_nothing(
    artifact: SourceArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def interrupted(_descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artifact.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_there_is_the_folder(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_artifact.toolchain, "find_c_compiler", lambda: None)
    artifact = compile(program, "c")
    artifact.save(tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} == FILES
    with pytest.raises(TargetError, match="no C compiler") as refused:
        artifact(torch.zeros(1, 3, 12, 12))
    assert refused.value.code == "GO-6002"
