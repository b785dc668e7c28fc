"""Reads the ``.pt2`` archive itself: a zip file of JSON and raw tensor bytes.

``torch.export.load`` executes what an archive tells it to, in at least seven ways (torch 2.13):
pickled weights, constants and legacy weights (``torch.load`` with ``weights_only=False``, for sample
inputs as a fallback), opaque constants (``pickle.loads``), TorchBind objects, and native code under
``data/aotinductor``.  So archives are read here, without torch's reader: JSON is parsed, tensors are
mapped from their raw bytes, and a member of any other kind is an error.  What the JSON says is
checked in :mod:`graphopt.exporters.pt2_vetting`.

Format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

from __future__ import annotations

import json
import math
import mmap
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphopt._torch import pt2_dtypes
from graphopt.errors import InputError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_MAX_JSON = 1 << 30


@dataclass(frozen=True)
class Archive:
    """What a ``.pt2`` file holds.

    Attributes:
        model: the parsed ``models/<name>.json``, not yet vetted.
        weights: parameters and buffers by dotted name; names that share storage share it here too,
            and names of the very same tensor have one tensor object.
        constants: the same for tensor constants and non-persistent buffers.
        extra: the texts stored under ``extra/``.
    """

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    constants: dict[str, torch.Tensor]
    extra: dict[str, str]


def read_archive(path: Path) -> Archive:
    """Read an archive; tensors are mapped from the file and become memory when they are used.

    Raises:
        InputError: the file cannot be read (GO-3001), is not a ``.pt2`` archive (GO-3002), is damaged
            (GO-3003), or holds anything that only a pickle or native code can restore (GO-3008).
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if not head.startswith(b"PK"):
                raise _not_an_archive(path, head)
            with zipfile.ZipFile(file) as zipped:
                members = _members(path, zipped)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", code="GO-3001") from error
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise damaged(path, str(error)) from error
    return _Reader(path, members, mapped).read()


def damaged(path: Path, reason: str) -> InputError:
    """The error for an archive that cannot be right."""
    return InputError(
        f"{path.name!r} is damaged or incomplete: {reason}",
        code="GO-3003",
        hint="write the file again with torch.export.save or graphopt",
    )


def refuse_pickle(path: Path, what: str) -> InputError:
    """The error for anything that would have to be unpickled."""
    return InputError(
        f"{path.name!r} holds {what}, and unpickling can execute code that the file brings",
        code="GO-3008",
        hint="pickled checkpoint; convert the weights to safetensors, or export the model with "
        "torch.export.save (torch 2.9 or newer) or torch.onnx.export",
    )


def _not_an_archive(path: Path, head: bytes) -> InputError:
    if _looks_pickled(head):
        return refuse_pickle(path, "a Python pickle")
    return InputError(
        f"{path.name!r} is not a .pt2 archive",
        code="GO-3002",
        hint="graphopt reads .onnx files and the .pt2 files of torch.export.save",
    )


def _looks_pickled(head: bytes) -> bool:
    """Whether a file starts as a pickle does: a protocol opcode, then another valid opcode."""
    known = {ord(opcode.code) for opcode in pickletools.opcodes}
    return len(head) > 2 and head[0] == 0x80 and head[1] <= 5 and head[2] in known


def _members(path: Path, zipped: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by name, without the root folder; refuses other kinds of zip file."""
    infos = zipped.infolist()
    names = [info.filename for info in infos]
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise refuse_pickle(path, "a torch.save checkpoint or TorchScript module")
    if "version" in names or any(name.startswith("serialized_") for name in names):
        raise refuse_pickle(path, "a torch.export archive of the format before torch 2.8")
    roots = {name.split("/", 1)[0] for name in names}
    if len(roots) != 1 or len(set(names)) != len(names):
        raise InputError(f"{path.name!r} is a zip file, but not a .pt2 archive", code="GO-3002")
    prefix = f"{roots.pop()}/"
    if f"{prefix}archive_format" not in names:
        raise InputError(f"{path.name!r} is a zip file, but not a .pt2 archive", code="GO-3002")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise damaged(path, f"member {info.filename!r} is compressed or encrypted")
    return {info.filename.removeprefix(prefix): info for info in infos}


class _Reader:
    def __init__(self, path: Path, members: Mapping[str, zipfile.ZipInfo], mapped: mmap.mmap) -> None:
        self._path = path
        self._members = members
        self._mapped = mapped
        self._dtypes = pt2_dtypes()
        self._tensors: dict[tuple[Any, ...], torch.Tensor] = {}

    def read(self) -> Archive:
        if self._text("archive_format") != "pt2" or self._text("archive_version") != "0":
            raise InputError(
                f"{self._path.name!r} is an archive of a version that graphopt does not read", code="GO-3002"
            )
        name = self._refuse_what_executes()
        return Archive(
            model=self._json(f"models/{name}.json"),
            weights=self._tensors_of("data/weights/", f"data/weights/{name}_weights_config.json"),
            constants=self._tensors_of("data/constants/", f"data/constants/{name}_constants_config.json"),
            extra={
                member.removeprefix("extra/"): self._text(member)
                for member in self._members
                if member.startswith("extra/")
            },
        )

    def _refuse_what_executes(self) -> str:
        """The name of the one model, once every member is known to be inert or unused."""
        models = [m for m in self._members if m.startswith("models/")]
        if any(m.startswith("data/aotinductor/") for m in self._members):
            raise InputError(
                f"{self._path.name!r} holds native code compiled by AOTInductor",
                code="GO-3002",
                hint="save the ExportedProgram itself with torch.export.save",
            )
        if len(models) != 1 or not models[0].endswith(".json"):
            raise InputError(
                f"{self._path.name!r} holds {len(models)} models; graphopt reads archives with one",
                code="GO-3002",
            )
        for member in self._members:
            if member.startswith(("data/weights/", "data/constants/")) and member.endswith(".pt"):
                raise refuse_pickle(self._path, "pickled weights of an older torch")
        # data/sample_inputs/*.pt is a pickle too, in every file of torch.export.save.  Nothing here
        # needs sample inputs, so the member is never opened.
        return models[0].removeprefix("models/").removesuffix(".json")

    def _tensors_of(self, folder: str, config_member: str) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        config = self._json(config_member)
        try:
            for name, payload in dict(config["config"]).items():
                stored = str(payload["path_name"])
                if payload["use_pickle"] or payload["tensor_meta"] is None:
                    raise refuse_pickle(self._path, f"{name!r} as a pickled object")
                found[name] = self._tensor(folder + stored, payload["tensor_meta"], bool(payload["is_param"]))
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise damaged(self._path, f"{config_member}: {error}") from error
        return found

    def _tensor(self, member: str, meta: Mapping[str, Any], is_parameter: bool) -> torch.Tensor:
        sizes = tuple(int(size["as_int"]) for size in meta["sizes"])
        strides = tuple(int(stride["as_int"]) for stride in meta["strides"])
        offset = int(meta["storage_offset"]["as_int"])
        dtype = self._dtypes[int(meta["dtype"])]
        grad = bool(meta["requires_grad"]) and (dtype.is_floating_point or dtype.is_complex)
        key = (member, sizes, strides, offset, dtype, is_parameter, grad)
        if key not in self._tensors:
            tensor = self._view(member, sizes, strides, offset, dtype)
            self._tensors[key] = torch.nn.Parameter(tensor, requires_grad=grad) if is_parameter else tensor
        return self._tensors[key]

    def _view(
        self, member: str, sizes: tuple[int, ...], strides: tuple[int, ...], offset: int, dtype: torch.dtype
    ) -> torch.Tensor:
        if len(sizes) != len(strides) or min((0, offset, *sizes, *strides)) < 0:
            raise ValueError(f"{member}: sizes {sizes}, strides {strides} and offset {offset} do not fit")
        if math.prod(sizes) == 0:
            return torch.empty_strided(sizes, strides, dtype=dtype)
        start, length = self._extent(member)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if (last + 1) * dtype.itemsize > length:
            raise ValueError(f"{member} has {length} bytes, too few for {dtype} of shape {list(sizes)}")
        key = ("storage", member, dtype)
        if key not in self._tensors:
            count = length // dtype.itemsize
            self._tensors[key] = torch.frombuffer(self._mapped, dtype=dtype, count=count, offset=start)
        return torch.as_strided(
            self._tensors[key], sizes, strides, self._tensors[key].storage_offset() + offset
        )

    def _extent(self, member: str) -> tuple[int, int]:
        """Where a member's bytes are in the file, once their checksum is known to hold."""
        info = self._members.get(member)
        if info is None:
            raise damaged(self._path, f"member {member!r} is missing")
        header = self._mapped[info.header_offset : info.header_offset + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise damaged(self._path, f"member {member!r} has no header")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + 30 + name_length + extra_length
        end = start + info.file_size
        if end > len(self._mapped):
            raise damaged(self._path, f"member {member!r} reaches past the end of the file")
        with memoryview(self._mapped) as whole, whole[start:end] as data:
            if zlib.crc32(data) != info.CRC:
                raise damaged(self._path, f"the checksum of member {member!r} is wrong")
        return start, info.file_size

    def _text(self, member: str) -> str:
        start, length = self._extent(member)
        if length > _MAX_JSON:
            raise damaged(self._path, f"member {member!r} has {length} bytes")
        try:
            return self._mapped[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise damaged(self._path, f"member {member!r} is not text") from error

    def _json(self, member: str) -> dict[str, Any]:
        try:
            value = json.loads(self._text(member))
        except (ValueError, RecursionError) as error:
            raise damaged(self._path, f"member {member!r} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise damaged(self._path, f"member {member!r} is not a JSON object")
        return value
