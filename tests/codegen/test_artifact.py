"""Artifacts: run, saved, loaded, read without graphopt, and refused when they do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from graphopt.codegen import Artifact, compile, cpufeatures, load_artifact
from graphopt.codegen.elf import MappedElf
from graphopt.errors import InputError, TargetError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify
from tests.codegen.models import SmallNet


def test_compiled_code_computes_what_the_program_does(program: Program, artifact: Artifact) -> None:
    verify(program, artifact).raise_if_failed()


def test_a_loaded_artifact_is_the_saved_one(program: Program, artifact: Artifact, saved: Path) -> None:
    loaded = load_artifact(saved)
    assert loaded.signature == artifact.signature == program.signature
    assert loaded.target == artifact.target
    assert loaded.kernels() == artifact.kernels() and loaded.kernels()
    assert loaded.source() == artifact.source() and "def " in loaded.source()
    assert loaded.metadata == artifact.metadata
    assert loaded.metadata["hashes"]["program"] == program.structural_hash()
    image = torch.randn(3, 3, 12, 12)
    for ours, theirs in zip(loaded(image), artifact(image), strict=True):
        assert torch.equal(ours, theirs)
    verify(program, loaded, draws=1).raise_if_failed()


def test_numpy_in_numpy_out_and_by_name(artifact: Artifact) -> None:
    image = torch.randn(2, 3, 12, 12)
    expected = artifact(image)
    arrays = artifact(image.numpy())
    assert all(isinstance(a, np.ndarray) for a in arrays)
    assert all(np.array_equal(a, e.numpy()) for a, e in zip(arrays, expected, strict=True))
    assert torch.equal(artifact(image=image)[0], expected[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base[1:, :, :12, :12],
        lambda base: base[1:].permute(0, 1, 3, 2)[..., :12, :12],
        lambda base: base.flatten()[1 : 1 + 2 * 3 * 144].reshape(2, 3, 12, 12),
    ],
    ids=["strided", "transposed", "misaligned"],
)
def test_inputs_need_not_be_contiguous_or_aligned(artifact: Artifact, view) -> None:  # type: ignore[no-untyped-def]
    image = view(torch.randn(3, 3, 13, 14))
    contiguous = image.clone(memory_format=torch.contiguous_format)
    for ours, theirs in zip(artifact(image), artifact(contiguous), strict=True):
        assert torch.equal(ours, theirs)
    array = np.asarray(image.numpy(), order="C")
    array.setflags(write=False)
    assert np.array_equal(artifact(array)[0], artifact(image)[0].numpy())


def test_outputs_are_the_callers_own(artifact: Artifact) -> None:
    image = torch.randn(2, 3, 12, 12)
    kept, first = image.clone(), artifact(image)
    copies = [o.clone() for o in first]
    for output in first:
        output.fill_(7)
    assert torch.equal(image, kept)
    for ours, theirs in zip(artifact(image), copies, strict=True):
        assert torch.equal(ours, theirs)


def test_outputs_outlive_the_calls_that_follow(artifact: Artifact) -> None:
    first = artifact(torch.randn(2, 3, 12, 12))
    copies = [o.clone() for o in first]
    for batch in (2, 3, 1):
        artifact(torch.randn(batch, 3, 12, 12))
    assert all(torch.equal(o, c) for o, c in zip(first, copies, strict=True))


def test_a_parameter_is_an_input_like_any_other(artifact: Artifact) -> None:
    image = torch.randn(2, 3, 12, 12)
    for ours, theirs in zip(artifact(torch.nn.Parameter(image)), artifact(image), strict=True):
        assert torch.equal(ours, theirs) and type(ours) is torch.Tensor and not ours.requires_grad


@pytest.mark.parametrize("shared", [True, False], ids=["one artifact", "the file opened twice"])
def test_threads_call_at_the_same_time(artifact: Artifact, saved: Path, shared: bool) -> None:
    artifacts = [artifact] * 2 if shared else [load_artifact(saved) for _ in range(2)]
    images = [torch.randn(2, 3, 12, 12), torch.randn(3, 3, 12, 12)]
    expected = [artifact(image) for image in images]

    def calls(number: int) -> list[bool]:
        results = [artifacts[number](images[number]) for _ in range(50)]
        return [torch.equal(o, e) for r in results for o, e in zip(r, expected[number], strict=True)]

    with ThreadPoolExecutor(2) as pool:
        assert all(all(equal) for equal in pool.map(calls, range(2)))


@pytest.mark.parametrize(
    ("arguments", "named", "says"),
    [
        ((), {}, "takes 1 inputs"),
        ((torch.zeros(2, 3, 12, 12),) * 2, {}, "takes 1 inputs"),
        ((torch.zeros(2, 3, 12, 12, dtype=torch.float64),), {}, "must be float32, not float64"),
        ((torch.zeros(2, 4, 12, 12),), {}, "axis 1 must be 3, not 4"),
        ((torch.zeros(3, 12, 12),), {}, "4 dimensions, not 3"),
        ((torch.zeros(17, 3, 12, 12),), {}, "batch = 17 is outside"),
        (([[1.0]],), {}, "must be a tensor, not list"),
        ((np.array(["a"]),), {}, "numpy dtype"),
        ((), {"imag": torch.zeros(2, 3, 12, 12)}, "no input 'imag'"),
        ((torch.zeros(2, 3, 12, 12),), {"image": torch.zeros(2, 3, 12, 12)}, "given twice"),
    ],
)
def test_wrong_inputs_are_named(artifact: Artifact, arguments, named, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as raised:
        artifact(*arguments, **named)
    assert raised.value.code == "GO-3010"
    assert says in raised.value.message


def test_the_plain_tvm_runtime_runs_the_file(saved: Path, artifact: Artifact, tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 12, 12), dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    code = f"""
        import sys
        import numpy as np
        import tvm
        from tvm import relax
        machine = relax.VirtualMachine(tvm.runtime.load_module({str(saved)!r}), tvm.cpu())
        outputs = machine["main"](tvm.runtime.tensor(np.load({str(tmp_path / "image.npy")!r})))
        np.save({str(tmp_path / "out.npy")!r}, outputs[0].numpy())
        assert "graphopt" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "out.npy"), artifact(image)[0])


def test_a_program_that_computes_nothing(tmp_path: Path) -> None:
    x = torch.randn(3)
    compile(capture_torch(torch.nn.Identity().eval(), (x,)), "cpu").save(tmp_path / "model.so")
    loaded = load_artifact(tmp_path / "model.so")
    assert loaded.kernels() == []
    assert torch.equal(loaded(x)[0], x)


def test_metadata_is_a_section_of_the_file(saved: Path) -> None:
    with MappedElf(saved) as elf:
        metadata = json.loads(elf.section(".graphopt") or b"")
    assert metadata["target"]["name"] == "cpu"
    assert [d["name"] for d in metadata["signature"]["inputs"]] == ["image"]
    assert metadata["signature"]["dims"]["batch"] == {"min": 1, "max": 16, "multiple_of": 1}
    assert all(k["rule"] for k in metadata["kernels"])
    assert metadata["pipeline"][0] == "legalize"


def test_equal_programs_give_equal_files(tmp_path: Path) -> None:
    """With static shapes; the order of TVM's shape computations depends on memory addresses."""
    files = []
    for _ in range(2):
        program = capture_torch(SmallNet().eval(), (torch.zeros(2, 3, 12, 12),))
        compile(program, "cpu").save(tmp_path / "model.so")
        files.append((tmp_path / "model.so").read_bytes())
    assert files[0] == files[1]


# -- files that cannot be used ---------------------------------------------------------------------


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load_artifact(tmp_path / "none.so")
    assert raised.value.code == "GO-3001"


@pytest.mark.parametrize("contents", [b"", b"text", bytes(4096)])
def test_a_file_that_is_no_library(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "a.so").write_bytes(contents)
    with pytest.raises(InputError) as raised:
        load_artifact(tmp_path / "a.so")
    assert raised.value.code == "GO-3011"


def test_a_foreign_library_is_not_executed() -> None:
    with pytest.raises(InputError, match="not one that graphopt wrote") as raised:
        load_artifact(Path(torch.__file__).parent / "lib" / "libshm.so")
    assert raised.value.code == "GO-3011"


def test_truncations_are_noticed(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    for size in (63, 1000, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.so").write_bytes(data[:size])
        with pytest.raises(InputError) as raised:
            load_artifact(tmp_path / "cut.so")
        assert raised.value.code == "GO-3011"


@pytest.mark.parametrize("section", [".text", ".lrodata", ".graphopt"])
def test_a_flipped_bit_is_noticed(saved: Path, tmp_path: Path, section: str) -> None:
    with MappedElf(saved) as elf:
        place = next(s for s in elf.sections if s.name == section)
    data = bytearray(saved.read_bytes())
    data[place.offset + place.size // 2] ^= 1
    (tmp_path / "flipped.so").write_bytes(data)
    with pytest.raises(InputError, match="checksum") as raised:
        load_artifact(tmp_path / "flipped.so")
    assert raised.value.code == "GO-3011"


def test_a_cpu_without_the_features_runs_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_artifact(saved)
    gone = sorted(loaded.target.features)[-1]
    fewer = cpufeatures.host_features() - {gone}
    monkeypatch.setattr(cpufeatures, "host_features", lambda: fewer)
    with pytest.raises(TargetError, match=gone) as raised:
        loaded(torch.zeros(2, 3, 12, 12))
    assert raised.value.code == "GO-6002"


# -- saving ----------------------------------------------------------------------------------------


def test_saving_replaces_and_leaves_nothing_else(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"old")
    artifact.save(path)
    assert load_artifact(path).signature == artifact.signature
    assert os.listdir(tmp_path) == ["model.so"]


def test_a_place_that_cannot_be_written(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        artifact.save(tmp_path / "absent" / "model.so")
    assert raised.value.code == "GO-3001"


def test_libraries_keep_code_in_reach_of_code(saved: Path) -> None:
    """The weights follow everything else, so that no relocation spans them."""
    with MappedElf(saved) as elf:
        names = [s.name for s in elf.sections]
    if cpufeatures.architecture(cpufeatures.host_triple()) == "x86_64":
        assert names.index(".lrodata") > names.index(".data")


def test_a_linked_artifact_is_not_saved_under_the_name_of_objects(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its suffix must be .so") as raised:
        artifact.save(tmp_path / "model.tar")
    assert raised.value.code == "GO-3002"
    assert not list(tmp_path.iterdir())
