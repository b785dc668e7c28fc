"""Folders of C that ``compile`` wrote, built with any compiler and run as programs of their own.

Used by ``python -m benchmarks.c_sanitizer`` and by the tests: the program may be for another machine
(run by qemu), or may end at the first access beside a tensor (AddressSanitizer).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.codegen.csource.folder import BUILD_FLAGS

SANITIZED = ("-g1", "-O1", "-DMODEL_GUARDED", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
             "-fno-wrapv")  # fmt: skip
"""Every tensor an allocation of its own, and the program ends at the first access beside it."""

_SECONDS = 120
"""How long a program may run."""


class CProgram:
    """An artifact of target ``c`` as a program; called like the artifact.

    Args:
        artifact: what to build.
        folder: to build it in; it must not be there yet.
        compiler: command.
        flags: for compiling and linking.
        launcher: what runs the program, such as qemu.

    Raises:
        RuntimeError: compiling failed, or printed a warning.
    """

    def __init__(
        self,
        artifact: SourceArtifact,
        folder: Path,
        *,
        compiler: str = "cc",
        flags: Sequence[str] = ("-O2",),
        launcher: Sequence[str] = (),
    ) -> None:
        self.signature = artifact.signature
        self.sizes: list[str] = artifact.metadata["sizes"]
        artifact.save(folder)
        self.program = folder / "example"
        sources = ["main.c", "model.c", "weights.S"]
        command = [compiler, "-Wall", *BUILD_FLAGS, *flags, "-o", "example", *sources, "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode or "warning:" in done.stderr:
            raise RuntimeError(done.stderr)
        self.command = [*launcher, str(self.program.resolve())]

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the program once.

        Raises:
            RuntimeError: it failed, with what it wrote to stderr.
        """
        given: dict[str, int] = {
            dim: size
            for spec, tensor in zip(self.signature.inputs, inputs, strict=True)
            for dim, size in zip(spec.shape, tensor.shape, strict=True)
            if isinstance(dim, str)
        }
        with tempfile.TemporaryDirectory(prefix="graphopt-run-") as name:
            folder = Path(name)
            sources = [folder / f"input{i}" for i in range(len(inputs))]
            results = [folder / f"output{i}" for i in range(len(self.signature.outputs))]
            for path, tensor in zip(sources, inputs, strict=True):
                path.write_bytes(_bytes(tensor))
            sizes = [str(given[dim]) for dim in self.sizes]
            command = [*self.command, *sizes, *map(str, sources + results)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"still running after {_SECONDS} seconds") from None
            if done.returncode:
                raise RuntimeError(f"exit status {done.returncode}\n{done.stderr}")
            return tuple(self._read(path, i, given) for i, path in enumerate(results))

    def _read(self, path: Path, number: int, sizes: Mapping[str, int]) -> torch.Tensor:
        spec = self.signature.outputs[number]
        shape = self.signature.resolve(spec.shape, sizes)
        contents = bytearray(path.read_bytes())
        if not contents:
            return torch.empty(shape, dtype=spec.dtype)
        return torch.frombuffer(contents, dtype=spec.dtype).reshape(shape)


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
