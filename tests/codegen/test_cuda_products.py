"""Products and convolutions on GPUs: what they compute, their instructions, and what is said of them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from tvm import s_tir, tirx

from benchmarks import zoo
from graphopt.codegen import compile, find_target, toolchain
from graphopt.codegen.gpu_report.ptxas import read_resources
from graphopt.codegen.gpu_report.roofline import A100, H100, estimate, occupancy
from graphopt.codegen.gpu_report.work import count_work
from graphopt.codegen.schedules.cuda.intrinsics import tensor_core
from graphopt.codegen.schedules.cuda.tiles import Capability, GemmTile, choose_tile
from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch
from tests.codegen.cuda_products import Convolutions, Linear, cuda_of, functions, on_cpu, serial

needs_nvcc = pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")


def _linear(rows: int, columns: int, depth: int, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    inputs = torch.randn(rows, depth, dtype=dtype), torch.randn(rows, columns, dtype=dtype)
    found = functions(Linear(depth, columns).to(dtype), inputs, **options)
    (product,) = [f for f in found if f[3].endswith("gemm")]
    return product


def _sizes(func: tirx.PrimFunc) -> list[tuple[int, ...]]:
    return [tuple(int(n) for n in p.shape) for p in func.params if isinstance(p.ty, tirx.BufferType)]


def _exactly_equal(meaning: tirx.PrimFunc, scheduled: tirx.PrimFunc) -> None:
    """Sums run in the same order in both, so that results are equal to the last bit."""
    random = np.random.default_rng(0)
    dtypes = [str(p.dtype) for p in meaning.params]
    values = [random.standard_normal(n).astype(d) for n, d in zip(_sizes(meaning), dtypes, strict=True)]
    results = []
    for func in (meaning, serial(scheduled)):
        tensors = [tvm.runtime.tensor(v) for v in values]
        on_cpu(func)(*tensors)
        results.append(tensors[-1].numpy())
    assert np.array_equal(*results)


@pytest.mark.parametrize("sizes", [(17, 13, 7), (33, 40, 48), (9, 1, 1), (130, 66, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_products_whose_sizes_no_tile_divides(
    sizes: tuple[int, int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The blocks that become tensor-core instructions run as the loops that those stand for.
    monkeypatch.setattr(s_tir.Schedule, "tensorize", lambda self, block, name: None)
    rows, columns, depth = sizes
    name, meaning, scheduled, rule = _linear(rows, columns, depth, dtype)
    assert rule == ("tensor-core-gemm" if dtype == torch.float16 else "cuda-core-gemm")
    _exactly_equal(meaning, scheduled)


@pytest.mark.parametrize("channels", [(3, 8), (8, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_convolutions(channels: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s_tir.Schedule, "tensorize", lambda self, block, name: None)
    image = torch.randn(2, channels[0], 9, 7, dtype=dtype)
    found = functions(Convolutions(*channels).to(dtype), (image,))
    rules = sorted(rule for _, _, _, rule in found if rule != "elementwise")
    product = "tensor-core-gemm" if dtype == torch.float16 else "cuda-core-gemm"
    assert rules == sorted([product, product, "window-reduction"])
    for _, meaning, scheduled, _ in found:
        _exactly_equal(meaning, scheduled)


def test_intrinsics_are_what_their_loops_say() -> None:
    """``desc`` and ``impl`` read and write the same regions, and multiplication multiplies."""
    names = tensor_core("float16", True, "shared.dyn")
    for name in (names.load_a, names.load_b, names.fill, names.multiply, names.store):
        intrinsic = s_tir.TensorIntrin.get(name)
        assert len(intrinsic.desc.params) == len(intrinsic.impl.params)
    assert "tvm_mma_sync" in s_tir.TensorIntrin.get(names.multiply).impl.script()


def test_half_precision_uses_tensor_cores_and_asynchronous_copies() -> None:
    target = find_target("cuda:sm_80")
    _, _, scheduled, _ = _linear(256, 256, 256, torch.float16, target="cuda:sm_80")
    source = cuda_of(scheduled, target)
    assert "nvcuda::wmma::mma_sync" in source and "cp.async" in source
    # 16 bytes a copy, and several steps under way.
    assert re.search(r"cp_async\w*_cg_16", source) and "wait_group 2" in source


def test_single_precision_is_not_rounded_to_tf32() -> None:
    _, _, scheduled, rule = _linear(256, 256, 256)
    source = cuda_of(scheduled, find_target("cuda"))
    assert rule == "cuda-core-gemm" and "wmma" not in source and "tf32" not in source
    assert re.search(r"cp_async\w*_cg_16", source)


def test_what_older_gpus_lack() -> None:
    target = find_target("cuda:sm_75")
    _, _, scheduled, rule = _linear(256, 256, 256, torch.float16, target="cuda:sm_75")
    source = cuda_of(scheduled, target)
    assert rule == "tensor-core-gemm" and "cp_async" not in source
    assert Capability(75).tensor_cores("float16") and not Capability(75).tensor_cores("bfloat16")
    assert not Capability(90).tensor_cores("float32")
    _, _, _, rule = _linear(256, 256, 256, torch.bfloat16, target="cuda:sm_75")
    assert rule == "cuda-core-gemm"


def test_tiles_fill_the_gpu_and_survive_annotation() -> None:
    options: dict[str, Any] = {"tensor_cores": True, "transposed": True, "left_vector": 8, "right_vector": 8}
    large, small = choose_tile(1, 8192, 8192, 512, **options), choose_tile(1, 16, 64, 64, **options)
    assert large.rows * large.columns > small.rows * small.columns
    assert GemmTile.read(large.annotation()) == large
    for rows, columns in itertools.product((16, 100, None), (1, 64, None)):
        tile = choose_tile(None, rows, columns, None, **options)
        assert tile.threads <= 1024 and tile.rows % (16 * tile.warp_rows) == 0


@needs_nvcc
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_instructions_of_a_large_product(dtype: torch.dtype, tmp_path: Path) -> None:
    target = find_target("cuda:sm_80")
    _, _, scheduled, _ = _linear(1024, 1024, 512, dtype, target="cuda:sm_80")
    code, ptx = tmp_path / "kernel.cu", tmp_path / "kernel.ptx"
    code.write_text(cuda_of(scheduled, target))
    nvcc = toolchain.find_nvcc()
    assert nvcc is not None
    toolchain.run_tool([nvcc, "-O3", "-w", "--ptx", "-arch=sm_80", "-o", str(ptx), str(code)])
    text = ptx.read_text()
    assert ("wmma.mma.sync" in text) == (dtype != torch.float32)
    assert "cp.async.cg.shared.global" in text
    assert "ld.global.v4" in text or "ld.global.nc.v4" in text or "ld.global.v2" in text
    if dtype == torch.float32:
        assert "ld.shared.v4" in text and "fma.rn.f32" in text
    _, printed = toolchain.compile_cuda(code.read_text(), "sm_80")
    (resources,) = read_resources(printed).values()
    assert not resources.spills


@pytest.mark.parametrize("name", ["minilm", "resnet50", "smollm2-prefill"])
def test_models_in_half_precision(name: str) -> None:
    model = zoo.get(name, "small")
    assert model.module is not None
    inputs = tuple(i.half() if i.is_floating_point() else i for i in model.inputs)
    found = functions(model.module.half(), inputs)
    rules = {rule for _, _, _, rule in found}
    assert "tensor-core-gemm" in rules and "elementwise" in rules
    assert not rules & {"unscheduled", "cuda-core-gemm", "dlight-matmul", "bind-threads"}


# -- what is said of kernels --------------------------------------------------------------------------


def test_work_of_a_product() -> None:
    _, meaning, _, _ = _linear(100, 60, 64, torch.float16)
    work = count_work(meaning)
    assert work.operations["float16 tensor"] == 2 * 100 * 60 * 64
    assert work.bytes == 2 * (100 * 64 + 60 * 64 + 60 + 2 * 100 * 60)
    assert work.on_tensor_cores
    assert not count_work(_linear(100, 60, 64)[1]).on_tensor_cores


def test_occupancy_by_the_rules_of_cuda() -> None:
    assert occupancy(256, 32, 0, A100) == 1.0
    assert occupancy(256, 128, 0, A100) == 0.25  # two blocks of eight warps: registers
    assert occupancy(128, 32, 81 * 1024, A100) == 2 * 4 / 64  # two blocks: shared memory
    assert occupancy(32, 32, 0, A100) == 0.5  # 32 blocks of one warp
    assert occupancy(256, 32, 200 * 1024, A100) == 0.0 < occupancy(256, 32, 200 * 1024, H100)


def test_the_roofline_names_what_bounds() -> None:
    _, large, _, _ = _linear(4096, 4096, 4096, torch.float16)
    _, thin, _, _ = _linear(16, 4096, 4096, torch.float16)
    assert estimate(count_work(large), A100).bound == "compute"
    assert estimate(count_work(thin), A100).bound == "memory"
    assert estimate(count_work(large), H100).seconds < estimate(count_work(large), A100).seconds


@needs_nvcc
def test_an_artifact_describes_its_kernels(tmp_path: Path) -> None:
    inputs = torch.randn(64, 64, dtype=torch.float16), torch.randn(64, 64, dtype=torch.float16)
    program = capture_torch(Linear(64, 64).half().eval(), inputs)
    artifact = compile(program, "cuda")
    (kernel,) = artifact.gpu_kernels()
    assert kernel.rule == "tensor-core-gemm" and kernel.on_tensor_cores and kernel.calls == 1
    assert kernel.dynamic_shared > 0 and kernel.threads % 32 == 0
    assert set(kernel.resources) == {"sm_80", "sm_90"}
    assert all(0 < r.registers <= 255 for r in kernel.resources.values()) and not kernel.spills
    for gpu in (A100, H100):
        share, least = kernel.occupancy(gpu), kernel.estimate(gpu)
        assert share is not None and 0 < share <= 1 and least is not None and least.seconds > 0
    assert kernel == type(kernel).from_dict(kernel.to_dict())


@needs_nvcc
def test_an_artifact_without_the_description_says_so(tmp_path: Path) -> None:
    inputs = torch.randn(16, 16), torch.randn(16, 16)
    artifact = compile(capture_torch(Linear(16, 16).eval(), inputs), "cuda:sm_80")
    for kernel in artifact.metadata["kernels"]:
        del kernel["work"]
    with pytest.raises(InputError) as raised:
        artifact.gpu_kernels()
    assert raised.value.code == "GO-3011"


def test_transposed_convolutions_have_kernels() -> None:
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(24, 24, 2, 2), torch.nn.ReLU())
    found = functions(module, (torch.randn(1, 24, 5, 7),))
    assert [rule for _, _, _, rule in found if rule.endswith("gemm")] == ["cuda-core-gemm"]
