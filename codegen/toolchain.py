"""Programs outside Python that code generation calls: the linker, and nvcc or NVRTC for CUDA.

Nothing is looked for before it is needed, and what is missing is reported as a
:class:`~graphopt.errors.TargetError` that says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.codegen import cpufeatures, nvrtc
from graphopt.errors import TargetError

if TYPE_CHECKING:
    from graphopt.codegen.targets import Target

CUDA_HINT = (
    "pip install 'graphopt[cuda]', or install the CUDA toolkit and put nvcc on PATH (or set CUDA_HOME)"
)
"""How to get a compiler for CUDA."""

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


def find_nvcc() -> str | None:
    """Path of nvcc: on PATH, else in ``$CUDA_HOME/bin``."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc") or (shutil.which(str(Path(home) / "bin" / "nvcc")) if home else None)


def compile_cuda(source: str, architecture: str) -> tuple[bytes, str]:
    """Compile CUDA source for one GPU architecture: with nvcc, or where there is none, NVRTC.

    No ``--use_fast_math``: verified programs must not lose accuracy to approximate division and
    square roots and to flushed denormals.

    Returns:
        the cubin, and what ptxas says of registers, spills and shared memory
        (:mod:`graphopt.codegen.gpu_report.ptxas`).

    Raises:
        TargetError: GO-6001, both are missing, or the one that is there failed (its message is quoted).
    """
    require_cuda_compiler()
    compiler = find_nvcc()
    if compiler is None:
        return nvrtc.compile_cuda(source, architecture)
    with tempfile.TemporaryDirectory(prefix="graphopt-cuda-") as folder:
        code, cubin = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        code.write_text(source)
        options = ["-O3", "-w", "-Xptxas", "-v", "--cubin", f"-arch={architecture}"]
        printed = run_tool([compiler, *options, "-o", str(cubin), str(code)])
        return cubin.read_bytes(), printed


def require_cuda_compiler() -> None:
    """Fail where nothing compiles CUDA source.

    Raises:
        TargetError: GO-6001, neither nvcc nor NVRTC is here.
    """
    if find_nvcc() is None and not nvrtc.is_installed():
        raise TargetError(
            "neither nvcc nor NVRTC is installed here, so no GPU binary can be made",
            code="GO-6001",
            hint=CUDA_HINT,
        )


def why_not_compiled(target: Target) -> str | None:
    """What is missing here to write an artifact for ``target``; None when nothing is."""
    if target.kind == "c":
        return None
    if target.kind == "cuda" and find_nvcc() is None and not nvrtc.is_installed():
        return "neither nvcc nor NVRTC is installed"
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
