"""A program compiled to C: written as a folder, and run here through this machine's C compiler."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from graphopt.codegen import toolchain
from graphopt.codegen.artifact import Artifact
from graphopt.codegen.csource.folder import BUILD_FLAGS, MANIFEST, SOURCES
from graphopt.codegen.package import Description, check_writable
from graphopt.errors import InternalError
from graphopt.files import write_folder_atomically
from graphopt.ir.signature import Signature


class SourceArtifact(Artifact):
    """What ``compile`` returns for target ``c``.

    A call compiles the files with this machine's C compiler, once, and runs the result: what is
    verified is what :meth:`save` writes.

    Args:
        files: contents by name.
        description: as for every artifact; the source is ``model.c``.
    """

    def __init__(self, files: Mapping[str, bytes], description: Description) -> None:
        # The folder has no place before it is saved.
        super().__init__(Path(), description)
        self.files = dict(files)

    def save(self, path: str | Path) -> None:
        """Write the folder; it must not be there yet, or be empty.

        Raises:
            InputError: GO-3001, the folder cannot be written.
        """
        path = Path(path)
        check_writable(path, ".c", self.target)
        write_folder_atomically(path, self.files)
        self.path = path

    def _load(self) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
        """``model_run`` on torch tensors; compiles on the first call.

        Raises:
            TargetError: GO-6002, there is no C compiler here; GO-6001, it failed.
        """
        if self._main is None:
            self.target.require_runnable()
            with tempfile.TemporaryDirectory(prefix="graphopt-c-") as folder:
                write_folder_atomically(Path(folder, "model"), self.files)
                library = build_library(Path(folder, "model"))
                self._main = runner(library, self.signature, self.metadata["sizes"])
        return self._main


def build_library(folder: Path) -> Path:
    """Compile a folder to a shared library inside it.

    Raises:
        TargetError: GO-6001, there is no C compiler, or it failed.
    """
    library = folder / "libmodel.so"
    sources = [str(folder / name) for name in SOURCES]
    flags = [*BUILD_FLAGS, "-O3", "-w", f"-Wa,-I,{folder}", f"-I{folder}", "-shared"]
    toolchain.run_tool([toolchain.require_c_compiler(), *flags, "-o", str(library), *sources, "-lm"])
    return library


def runner(
    library: Path, signature: Signature, sizes: list[str]
) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
    """``model_run`` of a library as a function of contiguous torch tensors.

    Args:
        sizes: names of the symbolic sizes, in the order of ``model_run``'s parameters.
    """
    run: Any = ctypes.CDLL(str(library)).model_run
    pointers = (
        ctypes.c_void_p * max(1, len(signature.inputs)),
        ctypes.c_void_p * max(1, len(signature.outputs)),
    )

    def call(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        given = {
            dim: size
            for spec, tensor in zip(signature.inputs, inputs, strict=True)
            for dim, size in zip(spec.shape, tensor.shape, strict=True)
            if isinstance(dim, str)
        }
        outputs = [torch.empty(signature.resolve(s.shape, given), dtype=s.dtype) for s in signature.outputs]
        # Of an empty tensor torch gives no address, and the model takes no null pointer.
        empty = ctypes.create_string_buffer(64)
        places = [
            kind(*(t.data_ptr() or ctypes.addressof(empty) for t in tensors))
            for kind, tensors in zip(pointers, (inputs, outputs), strict=True)
        ]
        status = run(*(ctypes.c_int64(given[name]) for name in sizes), *places)
        if status != 0:
            raise InternalError(f"the compiled model returned status {status}", code="GO-1001")
        return outputs

    return call


__all__ = ["MANIFEST", "SourceArtifact", "build_library", "runner"]
