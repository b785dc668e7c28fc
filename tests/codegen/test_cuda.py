"""CUDA artifacts on a machine without a GPU: kernels, source and binaries, but no run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from graphopt.codegen import Artifact, compile, find_target, load_artifact, toolchain
from graphopt.codegen.cuda import embed_binary, kernel_names
from graphopt.codegen.schedules import apply_schedules
from graphopt.codegen.schedules.cuda.binding import is_bound
from graphopt.errors import InternalError, TargetError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program

needs_nvcc = pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")


@pytest.fixture(scope="module")
def compiled(program: Program) -> Artifact:
    return compile(program, "cuda")


@needs_nvcc
def test_kernels_are_listed_from_the_binaries(compiled: Artifact) -> None:
    names = [k.name for k in compiled.kernels()]
    assert names and all(k.rule not in ("unscheduled", "runtime") for k in compiled.kernels())
    for architecture in ("sm_80", "sm_90"):
        cubin = compiled.cubin(architecture)
        assert cubin[:4] == b"\x7fELF"
        assert kernel_names(cubin) == names
    assert compiled.cubin("sm_80") != compiled.cubin("sm_90")
    assert all(f"{n}(" in compiled.source() for n in names)
    assert "__global__" in compiled.source()


@needs_nvcc
def test_it_is_saved_and_opened_but_not_run(compiled: Artifact, program: Program, tmp_path: Path) -> None:
    compiled.save(tmp_path / "model.so")
    loaded = load_artifact(tmp_path / "model.so")
    assert loaded.kernels() == compiled.kernels()
    assert loaded.cubin("sm_90") == compiled.cubin("sm_90")
    assert loaded.source() == compiled.source()
    with pytest.raises(TargetError, match="sm_75"):
        loaded.cubin("sm_75")
    if loaded.target.why_not_here():
        with pytest.raises(TargetError) as raised:
            loaded(torch.zeros(2, 3, 12, 12))
        assert raised.value.code == "GO-6002"


@needs_nvcc
def test_one_architecture_alone(program: Program) -> None:
    artifact = compile(program, "cuda:sm_90")
    with pytest.raises(TargetError):
        artifact.cubin("sm_80")
    assert kernel_names(artifact.cubin("sm_90"))


class _Awkward(nn.Module):
    """Kernels that the usual rules do not fit: scans, sorts, selections, a scalar."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values, order = x.sort(-1)
        return x.cumsum(-1), values, order, x.argmax(-1), x.flatten().sum(), x.amax((0, 1)), x[:, 1:].exp()


def test_every_kernel_is_bound_to_threads() -> None:
    import tvm
    from tvm import tirx

    from graphopt.codegen.pipeline import FUSE, run_pipeline
    from graphopt.codegen.relax import lower

    target = find_target("cuda")
    module = run_pipeline(lower(capture_torch(_Awkward().eval(), (torch.randn(3, 40),))).mod, target, FUSE)
    with tvm.target.Target(target.tvm_config()):
        module = apply_schedules(module, target)
    functions = [f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc)]
    assert functions and all(is_bound(f) for f in functions)


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def test_the_source_is_exchanged_for_the_binary() -> None:
    payload = _text(b"cuda") + b"table" + _text(b"source")
    body = b"tree" + _text(b"other") + _text(b"x") + _text(b"cuda") + _text(payload) + b"rest"
    new = embed_binary(_text(body), "source", b"binary!")
    expected = _text(b"fatbin") + b"table" + _text(b"binary!")
    assert new == _text(b"tree" + _text(b"other") + _text(b"x") + _text(b"cuda") + _text(expected) + b"rest")


def test_packed_modules_of_another_form_are_refused() -> None:
    with pytest.raises(InternalError):
        embed_binary(_text(b"tree" + _text(b"cuda") + _text(b"nothing")), "source", b"binary")


class _ComputedLength(nn.Module):
    """Attention over a sequence whose length is computed: ``(w - 1) // 2 + 1``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.avg_pool1d(x, 1, stride=2)
        return torch.softmax(y.transpose(1, 2) @ y, -1) @ y.transpose(1, 2)


@needs_nvcc
def test_lengths_that_are_computed() -> None:
    auto = torch.export.Dim.AUTO
    module = _ComputedLength().eval()
    program = capture_torch(module, (torch.randn(1, 8, 33),), dynamic_shapes=({2: auto},))
    artifact = compile(program, "cuda:sm_80")
    assert len(artifact.kernels()) >= 3
    assert "unscheduled" not in {k.rule for k in artifact.kernels()}
