"""What a GPU could do at best with a kernel: occupancy, and the time that its work takes at the peaks.

A kernel cannot run faster than its operations at the peak rate of the units that it uses, nor than its bytes
at the bandwidth of memory (Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance
Model", CACM 52(4), 2009).  Peaks are those that NVIDIA publishes, without sparsity:

- A100 SXM 80 GB: "NVIDIA A100 Tensor Core GPU Architecture" whitepaper (2020), table 1, and for the 80 GB
  version's 2,039 GB/s the "NVIDIA A100 80GB" datasheet (2021).
- H100 SXM5: "NVIDIA H100 Tensor Core GPU Architecture" whitepaper (2022), tables 1 and 2.

Limits of a multiprocessor: CUDA C++ Programming Guide, "Compute Capabilities", technical specifications;
granularity of allocation: NVIDIA's occupancy calculator (``cuda_occupancy.h``).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.codegen.gpu_report.work import Work


@dataclass(frozen=True)
class Gpu:
    """Peaks and limits of one GPU.

    Attributes:
        name: as NVIDIA calls it.
        architecture: ``"sm_80"``.
        multiprocessors: on the chip.
        flops: operations a second by type; ``"float16 tensor"`` on tensor cores with float32 sums.
        bandwidth: of its memory, bytes a second.
        shared: bytes of shared memory that blocks on one multiprocessor may hold together.
    """

    name: str
    architecture: str
    multiprocessors: int
    flops: dict[str, float]
    bandwidth: float
    shared: int


_T = 1e12
A100 = Gpu(
    "A100", "sm_80", 108,
    {"float64": 9.7 * _T, "float32": 19.5 * _T, "float16": 78 * _T, "bfloat16": 39 * _T, "integer": 19.5 * _T,
     "float16 tensor": 312 * _T, "bfloat16 tensor": 312 * _T},
    2039e9, 164 * 1024,
)  # fmt: skip
H100 = Gpu(
    "H100", "sm_90", 132,
    {"float64": 33.5 * _T, "float32": 66.9 * _T, "float16": 133.8 * _T, "bfloat16": 133.8 * _T,
     "integer": 33.5 * _T, "float16 tensor": 989.4 * _T, "bfloat16 tensor": 989.4 * _T},
    3352e9, 228 * 1024,
)  # fmt: skip
GPUS = (A100, H100)

_WARP = 32
_WARPS = 64
_BLOCKS = 32
_REGISTERS = 65536
_REGISTER_UNIT = 256  # a warp's registers are allocated in this number
_WARP_UNIT = 4  # and warps of a block in this one
_SHARED_UNIT = 128
_SHARED_RESERVED = 1024  # of each block, by the system


@dataclass(frozen=True)
class Estimate:
    """A lower bound of a kernel's time.

    Attributes:
        seconds: at least.
        bound: ``"compute"`` or ``"memory"``, whichever takes longer.
    """

    seconds: float
    bound: str


def estimate(work: Work, gpu: Gpu) -> Estimate:
    """The least time that ``work`` takes on a GPU; tensor cores and CUDA cores work at the same time."""
    compute = max((n / gpu.flops[units] for units, n in work.operations.items()), default=0.0)
    memory = work.bytes / gpu.bandwidth
    return Estimate(max(compute, memory), "compute" if compute > memory else "memory")


def occupancy(threads: int, registers: int, shared: int, gpu: Gpu) -> float:
    """Warps that one multiprocessor holds, as a share of the 64 that it could; 0 where no block fits.

    Args:
        threads: of a block.
        registers: of a thread.
        shared: bytes of shared memory of a block, static and dynamic.
    """
    warps = -(-threads // _WARP)
    limits = [_BLOCKS, _WARPS // warps]
    if registers:
        of_warp = -(-registers * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
        limits.append(_REGISTERS // of_warp // _WARP_UNIT * _WARP_UNIT // warps)
    of_block = -(-(shared + _SHARED_RESERVED) // _SHARED_UNIT) * _SHARED_UNIT
    limits.append(gpu.shared // of_block)
    return min(limits) * warps / _WARPS
