"""What commands say of GPU kernels, and where sources go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.cli.tables import gpu_table, spill_warnings
from graphopt.codegen import toolchain
from graphopt.codegen.gpu_report.kernels import GpuKernel
from graphopt.codegen.gpu_report.ptxas import KernelResources
from graphopt.codegen.gpu_report.work import Work
from tests.cli.conftest import Graphopt

needs_nvcc = pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")

_FITS = KernelResources(64, 0, 0, 0, 0)
_SPILLS = KernelResources(255, 8, 16, 24, 0)


def _kernel(resources: dict[str, KernelResources]) -> GpuKernel:
    work = Work({"float16 tensor": 1 << 20}, 1 << 10)
    return GpuKernel("gemm_kernel", "tensor-core-gemm", 1, 128, ("8", "1", "1"), 1024, work, resources)


def test_spills_are_warned_of() -> None:
    assert spill_warnings([_kernel({"sm_80": _FITS, "sm_90": _FITS})]) == []
    (warning,) = spill_warnings([_kernel({"sm_80": _SPILLS, "sm_90": _FITS})])
    assert "gemm_kernel" in warning and "sm_80" in warning and "sm_90" not in warning


def test_the_table_has_a_row_a_kernel() -> None:
    table = gpu_table([_kernel({"sm_80": _SPILLS, "sm_90": _FITS}), _kernel({})])
    assert table.row_count == 2
    headings = [str(column.header) for column in table.columns]
    assert {"regs sm_80", "spill B sm_90", "occ % A100", "least us H100"} <= set(headings)


@needs_nvcc
def test_compile_and_inspect_for_a_gpu(graphopt: Graphopt, here: Path) -> None:
    report = here / "report.json"
    done = graphopt("compile", "model.onnx", "-o", "gpu.so", "--target", "cuda:sm_80", "--emit", "source",
                    "--draws", 1, "--json", report)  # fmt: skip
    assert done.status == 0 and "GPU kernels" in done.out
    assert "__global__" in (here / "gpu.cu").read_text()
    kernels = json.loads(report.read_text())["gpu_kernels"]
    assert kernels and all(k["resources"]["sm_80"]["registers"] > 0 for k in kernels)
    shown = graphopt("inspect", "gpu.so")
    assert shown.status == 0 and all(k["name"][:8] in shown.out for k in kernels)


def test_the_source_of_cpu_code(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("compile", "model.onnx", "-o", "cpu.so", "--emit", "source", "--draws", 1, "--quiet")
    assert done.status == 0 and "prim_func" in (here / "cpu.tir").read_text()


def test_a_source_needs_a_place(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("compile", "model.onnx", "--emit", "source")
    assert done.status == 2 and "-o" in done.err
    (here / "taken.tir").mkdir()
    done = graphopt("compile", "model.onnx", "-o", "taken.so", "--emit", "source")
    assert done.status == 3 and not (here / "taken.so").exists()
