"""Compiled programs, kept between runs.

An artifact is found again by all that went into it: the program with its weights, the target, the model
file that it names, and the code generator itself.  Files carry their own digest, so one that was damaged is
compiled again.  Artifacts hold machine code that will be run: a folder that others may write to is not used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.codegen.artifact import Artifact
from graphopt.codegen.package import FORMAT, read_package
from graphopt.codegen.targets import Target
from graphopt.errors import InputError
from graphopt.files import copy_atomically

VARIABLE = "GRAPHOPT_CACHE"
"""Environment variable: the folder to use, or ``off``."""

LARGEST = 4 << 30
"""Bytes that the folder may hold; the artifacts that were not used for longest go first."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """``$GRAPHOPT_CACHE``, else ``graphopt`` in the user's cache folder (XDG); None if it is switched off."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(home or Path.home() / ".cache") / "graphopt"
    except RuntimeError:  # no home folder
        return None


class ArtifactCache:
    """The artifacts in one folder.

    Args:
        folder: made, for this user alone, when something is added.
        largest: bytes that it may hold.
    """

    def __init__(self, folder: Path, largest: int = LARGEST) -> None:
        self.folder = folder
        self.largest = largest

    @staticmethod
    def of_user() -> ArtifactCache | None:
        """The cache in :func:`cache_folder`; None if there is to be none."""
        folder = cache_folder()
        return None if folder is None else ArtifactCache(folder)

    def find(self, key: str, target: Target) -> Artifact | None:
        """The artifact under ``key``, in a file of its own; None if there is none that is whole."""
        path = self.folder / f"{key}.{target.object_format}"
        if not path.exists() or not self._is_ours():
            return None
        own = Path(tempfile.mkdtemp(prefix="graphopt-artifact-"))
        copy = own / f"model.{target.object_format}"
        try:
            try:
                os.link(path, copy)
            except OSError:  # another file system
                shutil.copyfile(path, copy)
            artifact = Artifact(copy, read_package(copy), owned=own)
            os.utime(path)
        except (InputError, OSError) as error:
            shutil.rmtree(own, ignore_errors=True)
            _log.warning("a compiled program in %s cannot be used and is compiled again: %s", path, error)
            return None
        return artifact

    def add(self, key: str, artifact: Artifact) -> None:
        """Keeps a copy of the artifact; a full disk or a folder that cannot be written is no error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._is_ours():
                copy_atomically(artifact.path, self.folder / f"{key}{artifact.path.suffix}", 0o700)
                self._evict()
        except (InputError, OSError) as error:
            _log.warning("the compiled program is not kept for the next time: %s", error)

    def _is_ours(self) -> bool:
        status = self.folder.stat()
        ours = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not ours:
            _log.warning("%s is not used: others may write to it", self.folder)
        return ours

    def _evict(self) -> None:
        files = [(p.stat(), p) for p in self.folder.iterdir() if p.suffix in (".so", ".tar")]
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda item: item[0].st_mtime)[:-1]:
            if total <= self.largest:
                break
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= status.st_size


def cache_key(facts: Mapping[str, Any]) -> str:
    """A name for what is made from ``facts`` (plain data) by this version of the code generator."""
    everything = {**facts, "format": FORMAT, "made by": _generator()}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


@functools.cache
def _generator() -> list[str]:
    """Versions of what generates code, and a digest of our part of it, which changes between releases."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("graphopt", "apache-tvm")]
    return [*versions, digest.hexdigest()]
