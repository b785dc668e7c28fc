"""The artifact's file: a shared library that carries its own description.

Sections besides code (``docs/targets.md`` has the format):

``.graphopt``         JSON: signature, target, hashes, kernels.  Not loaded with the library, and read
                      without executing any of it.
``.graphopt.source``  zlib-compressed source text of the kernels.
``.graphopt.sm_NN``   the cubin for that GPU architecture.
``.graphopt.sha256``  digest of the whole file with these 32 bytes zero.

What TVM needs (bytecode of the virtual machine and the weights) is data behind the symbol
``__tvm_ffi__library_bin``, which the plain TVM runtime reads.  Where there is no linker for the
target the same pieces are kept as a ``.tar`` of object files.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.codegen import toolchain
from graphopt.codegen.elf import DataSection, ElfError, ElfReader, MappedElf, write_data_object
from graphopt.codegen.targets import Target
from graphopt.errors import InputError, TargetError
from graphopt.files import check_output, check_output_folder

if TYPE_CHECKING:
    from graphopt.ir.signature import Signature

FORMAT = 1
LIBRARY_SYMBOL = "__tvm_ffi__library_bin"
METADATA, SOURCE, DIGEST, CUBIN = ".graphopt", ".graphopt.source", ".graphopt.sha256", ".graphopt.sm_"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Description:
    """What an artifact says about itself, read without running it."""

    metadata: dict[str, Any]
    source: str
    cubins: Mapping[str, bytes] = field(default_factory=dict)


def common_metadata(
    signature: Signature,
    target: Target,
    hashes: Mapping[str, str],
    source: Mapping[str, str] | None,
    steps: Iterable[str],
) -> dict[str, Any]:
    """What the metadata of artifacts of every form say.

    Args:
        hashes: of the program and its weights.
        source: path and digest of the model file.
        steps: names of the steps that made it.
    """
    return {
        "format": FORMAT,
        "graphopt": importlib.metadata.version("graphopt"),
        "tvm": importlib.metadata.version("apache-tvm"),
        "target": target.to_dict(),
        "signature": signature.to_dict(),
        "hashes": dict(hashes),
        "source": source,
        "pipeline": list(steps),
    }


def check_writable(path: Path, form: str, target: Target) -> None:
    """Fails, before the work, where an artifact of that form cannot become ``path``.

    Args:
        form: ``.so``, ``.tar``, or ``.c``, which is a folder.

    Raises:
        InputError: GO-3001, no file or folder can be written there; GO-3002, it has another suffix.
        TargetError: GO-6001, it is a ``.so`` and there is no linker for the target.
    """
    if form == ".c":
        if path.suffix in (".so", ".tar"):
            raise InputError(
                f"cannot write {str(path)!r}: target {target.name!r} writes a folder",
                code="GO-3002",
                hint="name a folder that is not there yet",
            )
        check_output_folder(path)
        return
    if form == ".tar" and path.suffix == ".so":
        arch = target.architecture
        raise TargetError(
            f"no linker for {arch} is installed here, so {path.name} cannot be written",
            code="GO-6001",
            hint=f"write a .tar and link it there, or install {arch}-linux-gnu-gcc or lld",
        )
    check_output(path, (form,))


def write_package(
    objects: Mapping[str, bytes], library: memoryview, description: Description, target: Target, output: Path
) -> None:
    """Write the artifact to ``output``: a shared library, or a tar of objects if the suffix is ``.tar``.

    Args:
        objects: relocatable object files by name.
        library: contents for ``__tvm_ffi__library_bin`` (TVM's packed imports).

    Raises:
        TargetError: GO-6001, no linker for the target, or it failed.
    """
    text = json.dumps(description.metadata, indent=1, sort_keys=True).encode()
    sections = [
        # .lrodata is where the x86-64 ABI puts large read-only data: code stays within reach of code.
        DataSection(".lrodata", library, LIBRARY_SYMBOL),
        DataSection(METADATA, text),
        DataSection(SOURCE, zlib.compress(description.source.encode(), 6)),
        *(DataSection(f".graphopt.{arch}", cubin) for arch, cubin in sorted(description.cubins.items())),
        DataSection(DIGEST, b"\0" * _DIGEST_BYTES),
    ]
    with tempfile.TemporaryDirectory(prefix="graphopt-link-") as folder:
        paths = []
        for name, contents in objects.items():
            paths.append(Path(folder, name))
            paths[-1].write_bytes(contents)
        paths.append(Path(folder, "library.o"))
        write_data_object(paths[-1], target.architecture, sections)
        if output.suffix == ".tar":
            _write_tar(paths, text, output)
        else:
            toolchain.link_shared(paths, output, target.triple)
            _seal(output)


def read_package(path: Path) -> Description:
    """Read what an artifact says about itself, after checking that the file is whole.

    Raises:
        InputError: GO-3001, no such file; GO-3011, not an artifact of graphopt, or damaged.
    """
    try:
        with MappedElf(path) as elf:
            return _describe(elf, path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", code="GO-3001") from None
    except ElfError as error:
        raise damaged(path, str(error)) from None


def _describe(elf: ElfReader, path: Path) -> Description:
    text, packed, digest = elf.section(METADATA), elf.section(SOURCE), elf.section(DIGEST)
    if text is None or packed is None or digest is None:
        raise damaged(path, "it is a shared library, but not one that graphopt wrote")
    if len(digest) != _DIGEST_BYTES or digest != elf.digest(without=DIGEST):
        raise damaged(path, "its contents changed after it was written (the checksum differs)")
    metadata = json.loads(text)
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path} has artifact format {metadata.get('format')}, this graphopt reads format {FORMAT}",
            code="GO-3011",
            hint=f"it was written by graphopt {metadata.get('graphopt')}; compile the model again",
        )
    cubins = {
        s.name.removeprefix(".graphopt."): elf.section(s.name) or b""
        for s in elf.sections
        if s.name.startswith(CUBIN)
    }
    return Description(metadata, zlib.decompress(packed).decode(), cubins)


def damaged(path: Path, reason: str) -> InputError:
    """The error for a file that cannot be used as an artifact."""
    return InputError(
        f"{path} is not a usable artifact: {reason}",
        code="GO-3011",
        hint="an artifact is what 'graphopt compile MODEL -o FILE.so' writes",
    )


def _seal(path: Path) -> None:
    """Fill in the digest section."""
    with MappedElf(path) as elf:
        section = next(s for s in elf.sections if s.name == DIGEST)
        digest = elf.digest(without=DIGEST)
    with path.open("r+b") as out:
        out.seek(section.offset)
        out.write(digest)


def _write_tar(objects: list[Path], metadata: bytes, output: Path) -> None:
    """Objects and metadata with fixed times and owners, so that equal inputs give equal files."""
    with tarfile.open(output, "w") as tar:
        for path in objects:
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            with path.open("rb") as data:
                tar.addfile(info, data)
        info = tarfile.TarInfo("graphopt.json")
        info.size = len(metadata)
        tar.addfile(info, io.BytesIO(metadata))
