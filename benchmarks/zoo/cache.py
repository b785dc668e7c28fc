"""Files that take long to make (dequantised weights, exported ONNX), kept in the user's cache folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """``$GRAPHOPT_ZOO_CACHE``, else ``$XDG_CACHE_HOME/graphopt/zoo``, else ``~/.cache/graphopt/zoo``."""
    explicit = os.environ.get("GRAPHOPT_ZOO_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graphopt" / "zoo"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cached file called ``name``; ``make(path)`` writes it the first time.

    The name carries the versions that the content depends on.  The file appears under its name only
    when it is complete, so an interrupted or concurrent run leaves nothing half written.
    """
    target = cache_folder() / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as folder:
        unfinished = Path(folder) / name
        make(unfinished)
        os.replace(unfinished, target)
    return target
