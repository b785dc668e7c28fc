"""GPU binaries: from the CUDA source that TVM generates to what an artifact carries.

Without an NVIDIA driver TVM keeps source only, and serialises it where the runtime expects a binary.
graphopt compiles it, one cubin an architecture for inspection, and puts a fatbin of all of
them in the place of the source, so that the library loads on a machine with a GPU.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import tvm

from graphopt.codegen import toolchain
from graphopt.codegen.elf import ElfReader
from graphopt.codegen.fatbin import bundle
from graphopt.codegen.gpu_report.ptxas import KernelResources, read_resources
from graphopt.errors import InternalError

_MODULE_KIND = "cuda"


def cuda_source(module: tvm.runtime.Module) -> str | None:
    """CUDA C++ of the module tree's GPU functions; None when it has none.

    Raises:
        InternalError: GO-1001, several GPU modules: only one is expected.
    """
    found = list(_gpu_modules(module))
    if len(found) > 1:
        raise InternalError(f"{len(found)} CUDA modules were generated, not one", code="GO-1001")
    return str(found[0].inspect_source()) if found else None


@dataclass(frozen=True)
class Binaries:
    """CUDA source, compiled.

    Attributes:
        cubins: by architecture.
        fatbin: all of them, in the form that the driver chooses from.
        resources: what each kernel uses, by architecture and kernel.
    """

    cubins: dict[str, bytes]
    fatbin: bytes
    resources: dict[str, dict[str, KernelResources]]


def build_binaries(source: str, architectures: Sequence[str]) -> Binaries:
    """Compile CUDA source.

    Raises:
        TargetError: GO-6001, nvcc and NVRTC are missing, or the compiler failed.
    """
    cubins, resources = {}, {}
    for architecture in architectures:
        cubins[architecture], printed = toolchain.compile_cuda(source, architecture)
        resources[architecture] = read_resources(printed)
    return Binaries(cubins, bundle(cubins), resources)


def kernel_names(cubin: bytes) -> list[str]:
    """Names of the kernels in a cubin, sorted.

    Raises:
        ElfError: it is not a cubin.
    """
    return ElfReader(cubin).functions()


def embed_binary(library: bytes, source: str, binary: bytes) -> bytes:
    """Exchange the source in TVM's packed modules for a fatbin.

    The layout is that of ``ProcessLibraryBin`` in tvm-ffi (library_module.cc): a byte count, the
    import tree, then for each module its kind and, length first, its bytes.  A CUDA module's bytes
    are a format name, a table of launch parameters, and the code, each text with its length first.

    Raises:
        InternalError: GO-1001, the packed modules do not look like that.
    """
    code = source.encode()
    marker = _text(_MODULE_KIND.encode())
    at = library.find(marker)
    while at >= 0:
        start = at + len(marker) + 8
        (size,) = struct.unpack_from("<Q", library, start - 8)
        payload = library[start : start + size]
        if payload.startswith(marker) and payload.endswith(_text(code)):
            table = payload[len(marker) : -len(_text(code))]
            new = _text(b"fatbin") + table + _text(binary)
            body = library[8 : start - 8] + struct.pack("<Q", len(new)) + new + library[start + size :]
            return struct.pack("<Q", len(body)) + body
        at = library.find(marker, at + 1)
    raise InternalError("TVM's packed modules hold no CUDA source where it is expected", code="GO-1001")


def _gpu_modules(module: tvm.runtime.Module) -> list[tvm.runtime.Module]:
    below = [m for child in module.imports for m in _gpu_modules(child)]
    return [module, *below] if module.kind == _MODULE_KIND else below


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data
