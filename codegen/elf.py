"""The little of ELF that artifacts need: read sections and symbols, write an object that holds data.

Source: System V ABI, chapters 4 and 5 (ELF64); the RISC-V psABI for ``e_flags``.  Only 64-bit
little-endian files occur here: every target's shared library, and NVIDIA's cubins.  Reading treats
the file as hostile: every offset is checked, and nothing of it is executed.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")

_MACHINE = {"x86_64": 62, "aarch64": 183, "riscv64": 243}
_FLAGS = {"riscv64": 0x5}  # EF_RISCV_RVC | EF_RISCV_FLOAT_ABI_DOUBLE: lp64d, as LLVM's objects have it.
_ET_REL = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOBITS, _SHT_DYNSYM = 1, 2, 3, 8, 11
_SHF_ALLOC = 2
_SHF_X86_64_LARGE = 0x10000000
_STB_GLOBAL, _STT_OBJECT, _STT_FUNC = 1, 1, 2


class ElfError(ValueError):
    """The bytes are not an ELF file, or point outside themselves."""


@dataclass(frozen=True)
class Section:
    """A named range of bytes of the file."""

    name: str
    type: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Symbol:
    """An entry of the symbol table."""

    name: str
    type: int
    binding: int
    section: int
    value: int
    size: int


class ElfReader:
    """Sections and symbols of an ELF64 little-endian image.

    Args:
        data: the image; a :class:`mmap.mmap` works, so that large files are not read whole.

    Raises:
        ElfError: the image is not such a file, or its tables point outside it.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        if len(data) < _EHDR.size or data[:4] != b"\x7fELF":
            raise ElfError("not an ELF file")
        if data[4] != 2 or data[5] != 1:
            raise ElfError("not a 64-bit little-endian ELF file")
        header = _EHDR.unpack_from(data, 0)
        self.machine: int = header[2]
        table, entry_size, count, names = header[6], header[11], header[12], header[13]
        if entry_size != _SHDR.size or table + count * entry_size > len(data) or names >= max(count, 1):
            raise ElfError("the section table is damaged or cut off")
        raw = [_SHDR.unpack_from(data, table + i * entry_size) for i in range(count)]
        unnamed = [Section("", r[1], r[4], r[5], r[6]) for r in raw]
        for section in unnamed:
            if section.type != _SHT_NOBITS and section.offset + section.size > len(data):
                raise ElfError("a section is damaged or cut off")
        strings = self._bytes(unnamed[names]) if count else b""
        self.sections = [
            Section(_string(strings, r[0]), s.type, s.offset, s.size, s.link)
            for r, s in zip(raw, unnamed, strict=True)
        ]

    def section(self, name: str) -> bytes | None:
        """Contents of the section called ``name``; None when there is none."""
        return next((self._bytes(s) for s in self.sections if s.name == name), None)

    def symbols(self) -> Iterator[Symbol]:
        """Symbols of the static table, else of the dynamic one."""
        tables = [s for s in self.sections if s.type == _SHT_SYMTAB]
        tables = tables or [s for s in self.sections if s.type == _SHT_DYNSYM]
        for table in tables:
            if table.link >= len(self.sections):
                raise ElfError("a symbol table has no string table")
            strings = self._bytes(self.sections[table.link])
            contents = self._bytes(table)
            for name, info, _, section, value, size in _SYM.iter_unpack(contents[: len(contents) // 24 * 24]):
                yield Symbol(_string(strings, name), info & 15, info >> 4, section, value, size)

    def functions(self) -> list[str]:
        """Names of the global functions that the file defines, sorted; of a cubin: its kernels."""
        return sorted(
            s.name
            for s in self.symbols()
            if s.type == _STT_FUNC and s.binding == _STB_GLOBAL and s.section != 0
        )

    def digest(self, *, without: str) -> bytes:
        """SHA-256 of the whole file, the section called ``without`` read as zeros."""
        section = next(s for s in self.sections if s.name == without)
        digest = hashlib.sha256()
        with memoryview(self._data) as view:
            for part in (view[: section.offset], bytes(section.size), view[section.offset + section.size :]):
                digest.update(part)
                if isinstance(part, memoryview):
                    part.release()
        return digest.digest()

    def _bytes(self, section: Section) -> bytes:
        if section.type == _SHT_NOBITS:
            return b""
        return bytes(self._data[section.offset : section.offset + section.size])


class MappedElf:
    """Context manager: an :class:`ElfReader` over a memory-mapped file.

    Raises:
        ElfError: the file is empty or not ELF.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        try:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # An empty file cannot be mapped.
            self._file.close()
            raise ElfError("the file is empty") from None

    def __enter__(self) -> ElfReader:
        try:
            return ElfReader(self._map)
        except ElfError:
            self._close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._map.close()
        self._file.close()


@dataclass(frozen=True)
class DataSection:
    """Bytes to place in an object file.

    Attributes:
        name: section name.
        contents: the bytes.
        symbol: global symbol at the start, when code refers to the data.  Without one the section is
            not loaded into memory with the library: it is a note for tools that read the file.
    """

    name: str
    contents: bytes | memoryview
    symbol: str | None = None


def write_data_object(path: Path, architecture: str, sections: list[DataSection]) -> None:
    """Write a relocatable ELF object that holds ``sections`` (aligned to 64 bytes).

    Hundreds of megabytes of weights pass through neither compiler nor assembler this way.

    Args:
        architecture: ``x86_64``, ``aarch64`` or ``riscv64``.
    """
    names = _StringTable()
    symbol_names = _StringTable()
    symbols = [_SYM.pack(0, 0, 0, 0, 0, 0)]
    headers: list[tuple[int, int, int, int, int, int, int, int]] = []
    with path.open("wb") as out:
        out.write(b"\0" * _EHDR.size)
        for index, section in enumerate(sections, start=1):
            offset = _pad(out, 64)
            out.write(section.contents)
            flags = _SHF_ALLOC if section.symbol else 0
            if section.symbol and architecture == "x86_64":
                flags |= _SHF_X86_64_LARGE
            size = len(section.contents)
            headers.append((names.add(section.name), _SHT_PROGBITS, flags, offset, size, 0, 0, 64))
            if section.symbol:
                info = _STB_GLOBAL << 4 | _STT_OBJECT
                symbols.append(_SYM.pack(symbol_names.add(section.symbol), info, 0, index, 0, size))
        # An empty note that says the stack need not be executable; without it linkers assume the worst.
        headers.append((names.add(".note.GNU-stack"), _SHT_PROGBITS, 0, _pad(out, 64), 0, 0, 0, 1))
        string_index = len(headers) + 2
        offset = _pad(out, 8)
        out.write(b"".join(symbols))
        headers.append((names.add(".symtab"), _SHT_SYMTAB, 0, offset, 24 * len(symbols), string_index, 1, 8))
        offset = out.tell()
        out.write(symbol_names.data)
        headers.append((names.add(".strtab"), _SHT_STRTAB, 0, offset, len(symbol_names.data), 0, 0, 1))
        name = names.add(".shstrtab")
        offset = out.tell()
        out.write(names.data)
        headers.append((name, _SHT_STRTAB, 0, offset, len(names.data), 0, 0, 1))
        table = _pad(out, 8)
        out.write(b"\0" * _SHDR.size)
        for name, type_, flags, offset, size, link, info, align in headers:
            entry = 24 if type_ == _SHT_SYMTAB else 0
            out.write(_SHDR.pack(name, type_, flags, 0, offset, size, link, info, align, entry))
        identity = b"\x7fELF\x02\x01\x01" + b"\0" * 9
        machine, e_flags = _MACHINE[architecture], _FLAGS.get(architecture, 0)
        count = len(headers) + 1
        out.seek(0)
        out.write(
            _EHDR.pack(
                identity, _ET_REL, machine, 1, 0, 0, table, e_flags, 64, 0, 0, _SHDR.size, count, count - 1
            )
        )


class _StringTable:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset


def _pad(out: BinaryIO, alignment: int) -> int:
    out.write(b"\0" * (-out.tell() % alignment))
    return out.tell()


def _string(table: bytes, offset: int) -> str:
    end = table.find(b"\0", offset)
    if offset > len(table) or end < 0:
        raise ElfError("a name points outside its string table")
    return table[offset:end].decode("utf-8", errors="replace")
