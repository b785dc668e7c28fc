"""Edits of .pt2 archives: what a damaged or hostile file looks like."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def read_members(path: Path) -> dict[str, bytes]:
    """Every member by its full name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def rewrite_member(path: Path, suffix: str, change: Callable[[bytes], bytes]) -> None:
    """Replace the one member whose name ends in ``suffix``."""
    members = read_members(path)
    [name] = [name for name in members if name.endswith(suffix)]
    members[name] = change(members[name])
    write_members(path, members)


def add_member(path: Path, name: str, data: bytes) -> None:
    """Add a member below the archive's root folder."""
    members = read_members(path)
    root = next(iter(members)).split("/", 1)[0]
    members[f"{root}/{name}"] = data
    write_members(path, members)


def rewrite_model(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the JSON that describes the graph."""

    def edited(text: bytes) -> bytes:
        model = json.loads(text)
        change(model)
        return json.dumps(model).encode()

    rewrite_member(path, "models/model.json", edited)
