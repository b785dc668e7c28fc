"""What can be compiled for: a target by name, and whether its code runs on this machine.

Names: ``cpu`` (this machine), ``cpu:NAME`` or ``NAME`` (an x86-64 CPU or level that LLVM knows, such
as ``x86-64-v3`` or ``skylake-avx512``), ``aarch64[-NAME]``, ``riscv64``, ``c`` (source), ``cuda`` (sm_80
and sm_90) and ``cuda:sm_NN``.  Schedules choose by :attr:`Target.features`, never by the name.
"""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphopt.codegen import cpufeatures, toolchain
from graphopt.errors import TargetError, UsageError, did_you_mean


@dataclass(frozen=True)
class Target:
    """A machine to compile for.

    Attributes:
        name: the name that :func:`find_target` accepts.
        kind: ``"cpu"``, ``"cuda"`` or ``"c"`` (source for any CPU).
        triple: LLVM triple of the CPU (for cuda: of the host that launches the kernels).
        cpu: LLVM's CPU name.
        attributes: LLVM features switched on or off by hand (``"+v"``, ``"-avx512f"``).
        features: instruction-set features of the CPU, by LLVM's names; compiled code may use any.
        cores: cores that parallel loops are planned for.
        gpu_architectures: compute capabilities (``"sm_80"``) that get a binary; empty on a CPU.
    """

    name: str
    kind: str
    triple: str
    cpu: str
    attributes: tuple[str, ...]
    features: frozenset[str]
    cores: int
    gpu_architectures: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """``x86_64``, ``aarch64`` or ``riscv64``."""
        return cpufeatures.architecture(self.triple)

    @property
    def object_format(self) -> str:
        """What is written: ``"so"`` where a linker for the architecture is here, else ``"tar"`` (objects to
        link there); ``"c"``, a folder of source."""
        if self.kind == "c":
            return "c"
        return "so" if toolchain.find_linker(self.triple) else "tar"

    @property
    def vector_bits(self) -> int:
        """Widest vector register that schedules should fill."""
        if "avx512f" in self.features:
            return 512
        return 256 if "avx" in self.features else 128

    @property
    def fma_bits(self) -> int:
        """Bits of a vector that one multiply-add unit takes at once."""
        return min(256, self.vector_bits) if self.cpu in _HALF_WIDTH_AVX512 else self.vector_bits

    def tvm_config(self) -> dict[str, Any]:
        """The target as the dict that ``tvm.target.Target`` takes."""
        host: dict[str, Any] = {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.cpu,
            "num-cores": self.cores,
        }
        if self.attributes:
            host["mattr"] = list(self.attributes)
        if self.architecture == "riscv64":
            host["mabi"] = "lp64d"
        if self.kind != "cuda":
            return host
        return {
            "kind": "cuda",
            # Schedules and source are written for the oldest; newer devices run the same source.
            "arch": self.gpu_architectures[0],
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "host": host,
        }

    def why_not_here(self) -> str | None:
        """Why code for this target cannot run on this machine; None when it can."""
        if self.kind == "c":
            return None if toolchain.find_c_compiler() else "no C compiler is installed"
        if self.architecture != cpufeatures.architecture(cpufeatures.host_triple()):
            return f"this machine is {cpufeatures.architecture(cpufeatures.host_triple())}"
        missing = self.features - cpufeatures.host_features()
        if missing:
            return f"this CPU ({cpufeatures.host_cpu()}) lacks {', '.join(sorted(missing))}"
        return None if self.kind == "cpu" else _why_no_gpu()

    def require_runnable(self) -> None:
        """Raise unless code for this target runs here.

        Raises:
            TargetError: GO-6002, with the reason.
        """
        reason = self.why_not_here()
        if reason:
            raise TargetError(
                f"code for target {self.name!r} cannot run here: {reason}",
                code="GO-6002",
                hint="run it on such a machine, or compile for target 'cpu' to run here",
            )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form; :meth:`from_dict` reads it back."""
        return {
            "name": self.name,
            "kind": self.kind,
            "triple": self.triple,
            "cpu": self.cpu,
            "attributes": list(self.attributes),
            "features": sorted(self.features),
            "cores": self.cores,
            "gpu_architectures": list(self.gpu_architectures),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Target:
        """Read what :meth:`to_dict` wrote (KeyError or TypeError when it did not)."""
        return Target(
            name=data["name"],
            kind=data["kind"],
            triple=data["triple"],
            cpu=data["cpu"],
            attributes=tuple(data["attributes"]),
            features=frozenset(data["features"]),
            cores=data["cores"],
            gpu_architectures=tuple(data["gpu_architectures"]),
        )


@dataclass(frozen=True)
class TargetStatus:
    """One line of ``graphopt targets``."""

    name: str
    description: str
    why_not_compiled: str | None
    why_not_run: str | None


GPU_ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")

# AVX-512 in two passes through units of 256 bits (AMD, "Software Optimization Guide for the Zen4
# Microarchitecture", section 2.11): half a register costs half the time, which no feature tells.
_HALF_WIDTH_AVX512 = frozenset({"znver4"})

# Cores of a machine that is not this one: unknown, so a middle value; it only steers schedules.
_ASSUMED_CORES = 4
_X86_TRIPLE = "x86_64-unknown-linux-gnu"
_AARCH64_TRIPLE = "aarch64-unknown-linux-gnu"
_RISCV64_TRIPLE = "riscv64-unknown-linux-gnu"
# RV64GC, what Linux distributions are built for; LLVM's generic CPU is the bare integer core.
_RISCV64_ATTRIBUTES = ("+m", "+a", "+f", "+d", "+c")


def _this_machine(name: str) -> Target:
    triple, cpu = cpufeatures.host_triple(), cpufeatures.host_cpu()
    features = cpufeatures.host_features()
    masked = cpufeatures.cpu_features(triple, cpu) - features
    attributes = tuple(f"-{f}" for f in sorted(masked))
    usable = cpufeatures.cpu_features(triple, cpu, attributes) if masked else None
    features = features if usable is None else usable & features
    return Target(name, "cpu", triple, cpu, attributes, features, _available_cores())


def _cpu(name: str, triple: str, cpu: str, attributes: tuple[str, ...] = ()) -> Target:
    features = cpufeatures.cpu_features(triple, cpu, attributes)
    return Target(name, "cpu", triple, cpu, attributes, features, _ASSUMED_CORES)


def _c(name: str) -> Target:
    # No features: vectors of 128 bits, which nearly every CPU has, written in GNU C.  The CPU is only what
    # TVM plans for, and the same everywhere, so that equal programs give equal folders.
    return Target(name, "c", _X86_TRIPLE, "x86-64-v2", (), frozenset(), _ASSUMED_CORES)


def _cuda(name: str, architectures: tuple[str, ...]) -> Target:
    # The host part only launches kernels: the baseline that every x86-64 server has will do.
    triple = cpufeatures.host_triple()
    cpu = "x86-64-v2" if cpufeatures.architecture(triple) == "x86_64" else "generic"
    host = _cpu(name, triple, cpu)
    return Target(name, "cuda", triple, cpu, (), host.features, host.cores, architectures)


_NAMED: dict[str, tuple[str, Callable[[str], Target]]] = {
    "cpu": ("this machine", _this_machine),
    "x86-64-v2": ("x86-64 with SSE4.2", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "x86-64-v3": ("x86-64 with AVX2 and FMA", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "x86-64-v4": ("x86-64 with AVX-512", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "skylake-avx512": ("Intel Xeon Scalable, first generation", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "cascadelake": ("Intel Xeon with AVX-512 VNNI", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "znver4": ("AMD Zen 4 (EPYC Genoa)", lambda n: _cpu(n, _X86_TRIPLE, n)),
    "aarch64": ("64-bit Arm, baseline", lambda n: _cpu(n, _AARCH64_TRIPLE, "generic")),
    "aarch64-neoverse-n1": ("Arm Neoverse N1", lambda n: _cpu(n, _AARCH64_TRIPLE, "neoverse-n1")),
    "riscv64": (
        "64-bit RISC-V, RV64GC",
        lambda n: _cpu(n, _RISCV64_TRIPLE, "generic-rv64", _RISCV64_ATTRIBUTES),
    ),
    "c": ("source in C, for any compiler and CPU", _c),
    "cuda": ("NVIDIA GPUs, binaries for sm_80 and sm_90", lambda n: _cuda(n, ("sm_80", "sm_90"))),
    "cuda:sm_80": ("NVIDIA A100", lambda n: _cuda(n, ("sm_80",))),
    "cuda:sm_90": ("NVIDIA H100 and H200", lambda n: _cuda(n, ("sm_90",))),
}


@cache
def find_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: GO-2003, no such target; the hint names the closest ones.
    """
    if name in _NAMED:
        return _NAMED[name][1](name)
    if name.startswith("cuda:") and name.removeprefix("cuda:") in GPU_ARCHITECTURES:
        return _cuda(name, (name.removeprefix("cuda:"),))
    if name.startswith("aarch64-") and name.removeprefix("aarch64-") in cpufeatures.known_cpus(
        _AARCH64_TRIPLE
    ):
        return _cpu(name, _AARCH64_TRIPLE, name.removeprefix("aarch64-"))
    cpu = name.removeprefix("cpu:")
    if cpu in cpufeatures.known_cpus(_X86_TRIPLE):
        return _cpu(name, _X86_TRIPLE, cpu)
    raise UsageError(
        f"unknown target {name!r}",
        code="GO-2003",
        hint=did_you_mean(name, _spellings()) or "'graphopt targets' lists them",
    )


def list_targets() -> list[TargetStatus]:
    """The named targets, each with what this machine lacks to compile for it or to run it."""
    rows = []
    for name, (description, _) in _NAMED.items():
        target = find_target(name)
        rows.append(
            TargetStatus(name, description, toolchain.why_not_compiled(target), target.why_not_here())
        )
    return rows


def _spellings() -> list[str]:
    cpus = cpufeatures.known_cpus(_X86_TRIPLE)
    arm = cpufeatures.known_cpus(_AARCH64_TRIPLE)
    gpus = [f"cuda:{a}" for a in GPU_ARCHITECTURES]
    return list(
        dict.fromkeys([*_NAMED, *gpus, *cpus, *(f"cpu:{c}" for c in cpus), *(f"aarch64-{c}" for c in arm)])
    )


def _available_cores() -> int:
    """Cores that this process may use (a container often has fewer than the machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _why_no_gpu() -> str | None:
    if ctypes.util.find_library("cuda") is None:
        return "no NVIDIA driver (libcuda.so.1) is installed"
    import tvm

    return None if tvm.cuda(0).exist else "no NVIDIA GPU is visible"
