"""Programs outside Python that code generation calls: the linker, and nvcc for CUDA.

Nothing is looked for before it is needed, and what is missing is reported as a
:class:`~graphopt.errors.TargetError` that says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.codegen import cpufeatures
from graphopt.errors import TargetError

if TYPE_CHECKING:
    from graphopt.codegen.targets import Target

# Emulations of GNU ld and LLVM's lld; lld serves every architecture with one program.
_LLD_EMULATION = {"x86_64": "elf_x86_64", "aarch64": "aarch64linux", "riscv64": "elf64lriscv"}


def find_linker(triple: str) -> tuple[str, ...] | None:
    """The command that links a shared library for ``triple``, without inputs; None when there is none.

    ``GRAPHOPT_LD`` names a compiler driver or linker of the user's choice for a foreign architecture.
    """
    return _find_linker(triple, os.environ.get("GRAPHOPT_LD"), os.environ.get("PATH", ""))


@cache
def _find_linker(triple: str, chosen: str | None, path: str) -> tuple[str, ...] | None:
    arch = cpufeatures.architecture(triple)
    if arch == cpufeatures.architecture(cpufeatures.host_triple()):
        driver = find_c_compiler()
        if driver:
            return (driver, "-shared", "-fPIC", "-lm")
    if chosen:
        return (chosen, "-shared")
    driver = shutil.which(f"{arch}-linux-gnu-gcc")
    if driver:
        return (driver, "-shared", "-fPIC", "-lm")
    linker = shutil.which(f"{arch}-linux-gnu-ld")
    if linker:
        return (linker, "-shared")
    lld = shutil.which("ld.lld") or _rust_lld()
    if lld and arch in _LLD_EMULATION:
        flavor = ("-flavor", "gnu") if Path(lld).name == "rust-lld" else ()
        return (lld, *flavor, "-m", _LLD_EMULATION[arch], "-shared")
    return None


def _rust_lld() -> str | None:
    """The copy of lld that comes with every Rust toolchain, which many machines have."""
    rustc = shutil.which("rustc")
    if rustc is None:
        return None
    done = subprocess.run([rustc, "--print", "sysroot"], capture_output=True, text=True, timeout=30)
    found = (
        sorted(Path(done.stdout.strip()).glob("lib/rustlib/*/bin/rust-lld")) if done.returncode == 0 else []
    )
    return str(found[0]) if found else None


def link_shared(objects: Sequence[Path], output: Path, triple: str) -> None:
    """Link ``objects`` into the shared library ``output``.

    Raises:
        TargetError: GO-6001, no linker for the architecture, or it failed (its message is quoted).
    """
    command = find_linker(triple)
    if command is None:
        arch = cpufeatures.architecture(triple)
        raise TargetError(
            f"no linker for {arch} is installed here",
            code="GO-6001",
            hint=f"install {arch}-linux-gnu-gcc or lld (or set GRAPHOPT_LD), or save as .tar",
        )
    # Inputs go before libraries: a linker with --as-needed drops libraries that nothing before them used.
    program, *flags = command
    libraries = [f for f in flags if f.startswith("-l")]
    switches = [f for f in flags if not f.startswith("-l")]
    run_tool([program, *switches, "-o", str(output), *map(str, objects), *libraries])


def find_c_compiler() -> str | None:
    """This machine's C compiler."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def require_c_compiler() -> str:
    """This machine's C compiler.

    Raises:
        TargetError: GO-6001, there is none.
    """
    found = find_c_compiler()
    if found is None:
        raise TargetError(
            "no C compiler is installed here",
            code="GO-6001",
            hint="install gcc or clang, as cc, gcc or clang",
        )
    return found


@cache
def find_nvcc() -> str | None:
    """Path of nvcc: on PATH, else in ``$CUDA_HOME/bin``."""
    return _find_cuda_tool("nvcc")


def compile_cuda(source: Path, cubin: Path, architecture: str) -> str:
    """Compile CUDA source for one GPU architecture.

    No ``--use_fast_math``: verified programs must not lose accuracy to approximate division and
    square roots and to flushed denormals.

    Returns:
        what ptxas says of registers, spills and shared memory (:mod:`graphopt.codegen.ptxas`).

    Raises:
        TargetError: GO-6001, nvcc is missing or failed (its message is quoted).
    """
    options = ["-O3", "-w", "-Xptxas", "-v", "--cubin", f"-arch={architecture}"]
    return run_tool([_cuda_tool("nvcc"), *options, "-o", str(cubin), str(source)])


def bundle_cubins(cubins: Mapping[str, Path], fatbin: Path) -> None:
    """Bundle cubins, by architecture, into a fatbin: the driver picks the one for the GPU it finds.

    Raises:
        TargetError: GO-6001, fatbinary (part of the CUDA toolkit) is missing or failed.
    """
    images = [f"--image3=kind=elf,sm={a.removeprefix('sm_')},file={p}" for a, p in cubins.items()]
    run_tool([_cuda_tool("fatbinary"), "-64", f"--create={fatbin}", *images])


def _find_cuda_tool(name: str) -> str | None:
    home = os.environ.get("CUDA_HOME")
    found = shutil.which(name) or (shutil.which(str(Path(home) / "bin" / name)) if home else None)
    if found is None and name != "nvcc" and (nvcc := find_nvcc()):
        found = shutil.which(str(Path(nvcc).resolve().parent / name))
    return found


def _cuda_tool(name: str) -> str:
    found = _find_cuda_tool(name)
    if found is None:
        raise TargetError(
            f"{name} is not installed here, so no GPU binary can be made",
            code="GO-6001",
            hint="install the CUDA toolkit and put nvcc on PATH (or set CUDA_HOME)",
        )
    return found


def why_not_compiled(target: Target) -> str | None:
    """What is missing here to write an artifact for ``target``; None when nothing is."""
    if target.kind == "c":
        return None
    if target.kind == "cuda" and find_nvcc() is None:
        return "nvcc is not installed"
    if find_linker(target.triple) is None:
        return f"no linker for {target.architecture}: only .tar archives of objects can be saved"
    return None


def run_tool(command: Sequence[str]) -> str:
    """Run a compiler or linker; its output is shown only when it fails.

    Returns:
        what it printed.

    Raises:
        TargetError: GO-6001, with the last lines that the tool printed.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise TargetError(f"{Path(command[0]).name} failed (exit {done.returncode}):\n{last}", code="GO-6001")
    return done.stdout + done.stderr
