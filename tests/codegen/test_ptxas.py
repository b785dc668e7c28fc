"""What ptxas prints, read."""

from __future__ import annotations

from graphopt.codegen.gpu_report.ptxas import KernelResources, read_resources

_PRINTED = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first_kernel' for 'sm_80'
ptxas info    : Function properties for first_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 31 registers, used 1 barriers, 1024 bytes smem, 392 bytes cmem[0]
ptxas info    : Compiling entry function 'second_kernel_1' for 'sm_80'
ptxas info    : Function properties for second_kernel_1
    64 bytes stack frame, 48 bytes spill stores, 56 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers
"""


def test_registers_spills_and_shared_memory() -> None:
    found = read_resources(_PRINTED)
    assert found == {
        "first_kernel": KernelResources(31, 0, 0, 0, 1024),
        "second_kernel_1": KernelResources(255, 48, 56, 64, 0),
    }
    assert [r.spills for r in found.values()] == [False, True]


def test_nothing_printed_is_nothing_found() -> None:
    assert read_resources("") == {}
    assert read_resources("nvcc warning: whatever") == {}
