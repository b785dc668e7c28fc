"""CUDA source becomes binaries with nvcc, with NVRTC where there is no nvcc, and with neither not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from graphopt.codegen import nvrtc, toolchain
from graphopt.codegen.cuda import build_binaries, kernel_names
from graphopt.codegen.fatbin import bundle
from graphopt.errors import TargetError

needs_nvcc = pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")
needs_nvrtc = pytest.mark.skipif(not nvrtc.is_installed(), reason="the extra 'cuda' is not installed")

ARCHITECTURES = ("sm_80", "sm_90")
SOURCE = """
#include <cuda_fp16.h>
extern "C" __global__ void scale(half* y, const half* x, int n) {
  __shared__ float tile[96];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  tile[threadIdx.x % 96] = i < n ? __half2float(x[i]) : 0.0f;
  __syncthreads();
  if (i < n) y[i] = __float2half(tile[95 - threadIdx.x % 96] * 2.0f);
}
"""


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH without the folders that have nvcc."""
    monkeypatch.delenv("CUDA_HOME", raising=False)
    folders = os.environ["PATH"].split(os.pathsep)
    kept = [f for f in folders if shutil.which("nvcc", path=f) is None]
    monkeypatch.setenv("PATH", os.pathsep.join(kept))
    assert toolchain.find_nvcc() is None


@needs_nvrtc
def test_nvrtc_takes_the_place_of_nvcc(no_nvcc: None) -> None:
    found = build_binaries(SOURCE, ARCHITECTURES)
    for architecture in ARCHITECTURES:
        assert kernel_names(found.cubins[architecture]) == ["scale"]
        resources = found.resources[architecture]["scale"]
        assert resources.static_shared == 96 * 4 and 0 < resources.registers < 64 and not resources.spills
    assert found.cubins["sm_80"] != found.cubins["sm_90"]
    assert all(cubin in found.fatbin for cubin in found.cubins.values())


@needs_nvcc
@needs_nvrtc
def test_both_compilers_give_the_same_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    of_nvcc = build_binaries(SOURCE, ARCHITECTURES)
    monkeypatch.setattr(toolchain, "find_nvcc", lambda: None)
    of_nvrtc = build_binaries(SOURCE, ARCHITECTURES)
    for architecture in ARCHITECTURES:
        ours, theirs = of_nvrtc.resources[architecture]["scale"], of_nvcc.resources[architecture]["scale"]
        assert kernel_names(of_nvrtc.cubins[architecture]) == kernel_names(of_nvcc.cubins[architecture])
        assert (ours.static_shared, ours.spills) == (theirs.static_shared, theirs.spills)


@needs_nvrtc
def test_what_nvrtc_finds_wrong_is_quoted(no_nvcc: None) -> None:
    with pytest.raises(TargetError, match="undefined_name") as raised:
        build_binaries('extern "C" __global__ void k(int* x) { x[0] = undefined_name; }', ["sm_80"])
    assert raised.value.code == "GO-6001"


def test_without_a_compiler_there_is_no_binary(no_nvcc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "is_installed", lambda: False)
    with pytest.raises(TargetError) as raised:
        build_binaries(SOURCE, ARCHITECTURES)
    assert raised.value.code == "GO-6001"
    assert "pip install 'graphopt[cuda]'" in str(raised.value.hint) and "nvcc" in str(raised.value.hint)


@pytest.mark.skipif(shutil.which("fatbinary") is None, reason="fatbinary is not installed")
def test_the_bundle_is_that_of_the_toolkit(tmp_path: Path) -> None:
    cubins = build_binaries(SOURCE, ARCHITECTURES).cubins
    images = []
    for architecture, cubin in cubins.items():
        path = tmp_path / architecture
        path.write_bytes(cubin)
        images.append(f"--image3=kind=elf,sm={architecture.removeprefix('sm_')},file={path}")
    toolchain.run_tool(["fatbinary", "-64", f"--create={tmp_path / 'all'}", *images])
    assert bundle(cubins) == (tmp_path / "all").read_bytes()
