"""Compiled programs are found again, and only where they are the same and whole."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import graphopt
from graphopt.codegen import compiler, find_target
from graphopt.codegen.artifact import Artifact
from graphopt.codegen.cache import ArtifactCache, cache_folder
from graphopt.ir.program import Program


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Targets of the compilations that were not found."""
    done: list[str] = []
    original = compiler.compile_module

    def count(*args: object) -> Artifact:
        done.append(str(getattr(args[2], "name")))  # noqa: B009
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "compile_module", count)
    return done


def _program(factor: float = 2.0, name: str = "x") -> Program:
    layer = nn.Linear(3, 2).eval()
    nn.init.constant_(layer.weight, factor)
    nn.init.zeros_(layer.bias)
    exported = torch.export.export(layer, (torch.ones(4, 3),))
    return Program.from_exported(exported, input_names=[name])


def test_the_second_time_nothing_is_compiled(compiled: list[str], tmp_path: Path) -> None:
    x = torch.randn(4, 3)
    first = graphopt.compile(_program())
    second = graphopt.compile(_program())
    assert compiled == ["cpu"]
    assert torch.equal(first(x)[0], second(x)[0])
    assert second.metadata == first.metadata
    second.save(tmp_path / "model.so")
    assert (tmp_path / "model.so").read_bytes() == first.path.read_bytes()


def test_another_weight_name_or_target_is_another_program(compiled: list[str]) -> None:
    for program in (_program(), _program(3.0), _program(name="y")):
        graphopt.compile(program)
    graphopt.compile(_program(), target="x86-64-v3")
    assert compiled == ["cpu", "cpu", "cpu", "x86-64-v3"]
    assert torch.equal(graphopt.compile(_program(3.0))(torch.ones(4, 3))[0], torch.full((4, 2), 9.0))


def test_another_code_generator_compiles_again(compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    graphopt.compile(_program())
    monkeypatch.setattr("graphopt.codegen.cache._generator", lambda: ["another"])
    graphopt.compile(_program())
    assert len(compiled) == 2


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_compiled_again(
    compiled: list[str], folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    graphopt.compile(_program())
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    again = graphopt.compile(_program())
    assert compiled == ["cpu", "cpu"]
    assert "is compiled again" in caplog.text
    assert torch.equal(again(torch.ones(4, 3))[0], torch.full((4, 2), 6.0))


def test_a_folder_that_others_may_write_to_is_not_used(
    compiled: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graphopt.compile(_program())
    folder.chmod(0o777)
    graphopt.compile(_program())
    assert compiled == ["cpu", "cpu"]
    assert "others may write to it" in caplog.text


def test_it_can_be_switched_off(compiled: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphopt.compile(_program(), cache=False)
    monkeypatch.setenv("GRAPHOPT_CACHE", "off")
    graphopt.compile(_program())
    assert len(compiled) == 2 and not folder.exists()


def test_a_folder_that_cannot_be_made_is_no_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file")
    assert torch.equal(graphopt.compile(_program())(torch.ones(4, 3))[0], torch.full((4, 2), 6.0))
    assert "is not kept" in caplog.text


def test_what_was_not_used_for_longest_goes_first(folder: Path) -> None:
    artifacts = [graphopt.compile(_program(f), cache=False) for f in (1.0, 2.0, 3.0)]
    sizes = [a.path.stat().st_size for a in artifacts]
    cache = ArtifactCache(folder, largest=sizes[0] + sizes[2])
    for age, (key, artifact) in enumerate(zip("abc", artifacts, strict=True)):
        cache.add(key, artifact)
        os.utime(folder / f"{key}.so", (age, age))
    assert cache.find("a", find_target("cpu")) is None
    assert cache.find("b", find_target("cpu")) is not None
    cache.add("d", artifacts[0])
    # "b" was used after "c".
    assert sorted(p.name for p in folder.iterdir()) == ["b.so", "d.so"]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GRAPHOPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "graphopt"
