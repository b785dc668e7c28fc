"""A fatbin: cubins for several GPU architectures in one image, from which the driver chooses.

The container is what ``fatbinary`` of the CUDA toolkit writes for uncompressed cubins, byte for byte (a test
compares them where it is installed): a header of 16 bytes, then for each image a header of 64 bytes and the
ELF file.  NVIDIA documents the magic number and the first header (``fatbinary_section.h``); NVRTC comes
without the tool.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_FILE = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes that follow
_IMAGE = struct.Struct("<HHIQ8xHHI8xQ16x")  # kind, version, header, size, (minor, major), architecture, flags
_MAGIC = 0xBA55ED50
_KIND_ELF = 2
_IMAGE_VERSION = 0x0101
# Written by every toolkit so far, whatever the cubin: version of the image, and 64-bit code made on Linux.
_MINOR, _MAJOR = 8, 1
_FLAGS = 0x11


def bundle(cubins: Mapping[str, bytes]) -> bytes:
    """Cubins, by architecture (``"sm_80"``), as one image."""
    images = []
    for architecture, cubin in cubins.items():
        padded = cubin + b"\0" * (-len(cubin) % 8)
        number = int(architecture.removeprefix("sm_"))
        header = _IMAGE.pack(
            _KIND_ELF, _IMAGE_VERSION, _IMAGE.size, len(padded), _MINOR, _MAJOR, number, _FLAGS
        )
        images.append(header + padded)
    body = b"".join(images)
    return _FILE.pack(_MAGIC, 1, _FILE.size, len(body)) + body
