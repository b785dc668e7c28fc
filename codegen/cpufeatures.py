"""Which instruction-set features a CPU has: this machine's, and those that LLVM gives a named CPU.

Features carry LLVM's names (``avx512vnni``, ``dotprod``) everywhere in graphopt; only this file
knows how the Linux kernel spells them.  Only features that LLVM may use in code without being asked
(vector and arithmetic extensions) are listed: an artifact for a CPU with, say, ``sha`` does not
require it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

# LLVM's name -> the flag(s) of /proc/cpuinfo, all of which must be present.
_X86: dict[str, tuple[str, ...]] = {
    "sse2": ("sse2",),
    "sse3": ("pni",),
    "ssse3": ("ssse3",),
    "sse4.1": ("sse4_1",),
    "sse4.2": ("sse4_2",),
    "popcnt": ("popcnt",),
    "lzcnt": ("abm",),
    "movbe": ("movbe",),
    "bmi": ("bmi1",),
    "bmi2": ("bmi2",),
    "f16c": ("f16c",),
    "fma": ("fma",),
    "avx": ("avx",),
    "avx2": ("avx2",),
    "avxvnni": ("avx_vnni",),
    "avxifma": ("avx_ifma",),
    "avxvnniint8": ("avx_vnni_int8",),
    "avxvnniint16": ("avx_vnni_int16",),
    "avxneconvert": ("avx_ne_convert",),
    "gfni": ("gfni",),
    "avx512f": ("avx512f",),
    "avx512cd": ("avx512cd",),
    "avx512bw": ("avx512bw",),
    "avx512dq": ("avx512dq",),
    "avx512vl": ("avx512vl",),
    "avx512ifma": ("avx512ifma",),
    "avx512vbmi": ("avx512vbmi",),
    "avx512vbmi2": ("avx512_vbmi2",),
    "avx512vnni": ("avx512_vnni",),
    "avx512bitalg": ("avx512_bitalg",),
    "avx512vpopcntdq": ("avx512_vpopcntdq",),
    "avx512bf16": ("avx512_bf16",),
    "avx512fp16": ("avx512_fp16",),
    "avx512vp2intersect": ("avx512_vp2intersect",),
    "amx-tile": ("amx_tile",),
    "amx-int8": ("amx_int8",),
    "amx-bf16": ("amx_bf16",),
}

_AARCH64: dict[str, tuple[str, ...]] = {
    "neon": ("asimd",),
    "lse": ("atomics",),
    "rdm": ("asimdrdm",),
    "dotprod": ("asimddp",),
    "fullfp16": ("fphp", "asimdhp"),
    "fp16fml": ("asimdfhm",),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "sve": ("sve",),
    "sve2": ("sve2",),
    "sme": ("sme",),
}

_RISCV64: dict[str, tuple[str, ...]] = {"m": (), "a": (), "f": (), "d": (), "c": (), "v": ()}

FEATURES: dict[str, dict[str, tuple[str, ...]]] = {"x86_64": _X86, "aarch64": _AARCH64, "riscv64": _RISCV64}
"""Architecture -> the features that graphopt tracks on it."""


def architecture(triple: str) -> str:
    """The architecture of an LLVM triple: ``"x86_64-unknown-linux-gnu"`` -> ``"x86_64"``."""
    first = triple.split("-", 1)[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(first, first)


@cache
def host_triple() -> str:
    """The LLVM triple of this machine."""
    from tvm.target import codegen

    return str(codegen.llvm_get_system_triple())


@cache
def host_cpu() -> str:
    """LLVM's name for this machine's CPU, for example ``"znver4"``."""
    from tvm.target import codegen

    return str(codegen.llvm_get_system_cpu())


@cache
def host_features() -> frozenset[str]:
    """The tracked features of the CPU that this process runs on.

    Linux is asked first: a hypervisor may mask features of the CPU whose name LLVM detects.
    """
    arch = architecture(host_triple())
    flags = _kernel_flags(Path("/proc/cpuinfo"))
    if not flags or arch == "riscv64":  # whose cpuinfo has one ISA string instead of flags
        return cpu_features(host_triple(), host_cpu())
    return frozenset(name for name, spelt in FEATURES[arch].items() if flags.issuperset(spelt))


def cpu_features(triple: str, cpu: str, attributes: tuple[str, ...] = ()) -> frozenset[str]:
    """The tracked features that LLVM assumes for ``cpu``, with ``attributes`` such as ``"+v"`` applied."""
    import tvm
    from tvm.target import codegen

    config: dict[str, object] = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    if attributes:
        config["mattr"] = list(attributes)
    known: set[str] = codegen.llvm_get_cpu_features(tvm.target.Target(config))
    return frozenset(FEATURES.get(architecture(triple), {})) & frozenset(map(str, known))


@cache
def known_cpus(triple: str) -> tuple[str, ...]:
    """Every CPU name that LLVM knows for the architecture of ``triple``."""
    import tvm
    from tvm.target import codegen

    with tvm.target.Target({"kind": "llvm", "mtriple": triple}) as target:
        return tuple(sorted(map(str, codegen.llvm_get_cpu_archlist(target))))


def _kernel_flags(cpuinfo: Path) -> frozenset[str]:
    """Flags of the first CPU in ``/proc/cpuinfo``; empty where the file or the line does not exist."""
    if not cpuinfo.exists():
        return frozenset()
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
