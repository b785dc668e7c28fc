"""GPU binaries without nvcc: NVIDIA's runtime compiler, which comes as Python packages.

``pip install graphopt[cuda]`` installs it with the headers that TVM's CUDA source includes.  It is the
compiler inside nvcc, and its log has what ptxas says of each kernel.  (NVIDIA, *NVRTC: CUDA Runtime
Compilation*.)
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

from graphopt.errors import TargetError

_OPTIONS = ("-w", "--ptxas-options=-v", "-default-device")
_LAST_LINES = 8


@cache
def is_installed() -> bool:
    """Whether the extra ``cuda`` is there, or its packages with the library of a toolkit."""
    try:
        found = find_spec("cuda.bindings") and find_spec("cuda.pathfinder")
    except ModuleNotFoundError:  # there is no package cuda at all
        return False
    if not found:
        return False
    from cuda import pathfinder

    try:
        pathfinder.load_nvidia_dynamic_lib("nvrtc")
    except pathfinder.DynamicLibNotFoundError:
        return False
    return True


def compile_cuda(source: str, architecture: str) -> tuple[bytes, str]:
    """Compile CUDA source for one GPU architecture, in this process.

    Returns:
        the cubin, and what ptxas says of its kernels (:mod:`graphopt.codegen.gpu_report.ptxas`).

    Raises:
        TargetError: GO-6001, it failed (its message is quoted), or its headers are missing.
    """
    from cuda.bindings import nvrtc

    options = [f"--gpu-architecture={architecture}", *_OPTIONS, *(f"-I{path}" for path in _headers())]
    arguments = [option.encode() for option in options]
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], []))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode(errors="replace")
        log = log.rstrip("\0")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise _failed("\n".join(log.strip().splitlines()[-_LAST_LINES:]) or status.name)
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program), log
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _headers() -> list[str]:
    """Folders of the runtime's headers and of libcu++, from the packages or a toolkit."""
    from cuda import pathfinder

    found = {name: pathfinder.find_nvidia_header_directory(name) for name in ("cudart", "cccl")}
    missing = [name for name, folder in found.items() if folder is None]
    if missing:
        raise TargetError(
            f"the CUDA headers of {' and '.join(missing)} are not installed here",
            code="GO-6001",
            hint="pip install 'graphopt[cuda]'",
        )
    return [os.fspath(folder) for folder in found.values() if folder is not None]


def _text(size: Any, get: Any, program: Any) -> bytes:
    text = b" " * _checked(size(program))
    _checked(get(program, text))
    return text


def _checked(result: tuple[Any, ...]) -> Any:
    """The value behind a status that has to be success."""
    status, *values = result
    if status.value != 0:
        raise _failed(status.name)
    return values[0] if values else None


def _failed(reason: str) -> TargetError:
    return TargetError(f"NVRTC failed:\n{reason}", code="GO-6001")
