"""Recipes: the settings of a compilation as a TOML file.

::

    version = 1
    target = "cpu"
    passes = "cleanup"
    verify = "final"
    draws = 2
    seed = 0

    [dims]
    batch = 1
    height = { min = 32, max = 1024 }
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.errors import InputError, UsageError, did_you_mean
from graphopt.files import write_atomically

if TYPE_CHECKING:
    from graphopt.passmanager.manager import CompileWhen

VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """Resolved settings: the command line over the file over the defaults."""

    target: str = "cpu"
    passes: str = "cleanup"
    verify: CompileWhen = "final"
    draws: int = 2
    seed: int = 0
    dims: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def resolve(path: str | os.PathLike[str] | None, **given: Any) -> Recipe:
        """The settings of a recipe file, overridden by what is given (None: not given).

        Raises:
            InputError: GO-3001, there is no such file.
            UsageError: GO-2005, the file is not a recipe.
        """
        settings = _read(Path(path)) if path is not None else {}
        settings.update({k: v for k, v in given.items() if v is not None})
        recipe = Recipe(**settings)
        from graphopt.passmanager.registry import build_pipeline

        build_pipeline(recipe.passes)
        return recipe

    def text(self) -> str:
        """The recipe as TOML."""
        lines = [f"version = {VERSION}"]
        for key in ("target", "passes", "verify", "draws", "seed"):
            lines.append(f"{key} = {json.dumps(getattr(self, key))}")
        if self.dims:
            lines += ["", "[dims]"]
            for name, size in self.dims.items():
                shown = size if isinstance(size, int) else f"{{ min = {size[0]}, max = {size[1]} }}"
                lines.append(f"{json.dumps(name)} = {shown}")
        return "\n".join(lines) + "\n"

    def save(self, destination: str) -> None:
        """Writes the recipe to a file, or to stdout for ``-``."""
        if destination == "-":
            print(self.text(), end="")
            return
        write_atomically(destination, self.text().encode())


_TYPES: dict[str, type] = {
    "target": str,
    "passes": str,
    "verify": str,
    "draws": int,
    "seed": int,
    "dims": dict,
}
_MODES = ("each", "final", "emulate", "off")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"there is no recipe {str(path)!r}", code="GO-3001")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {str(path)!r} is not TOML: {error}", code="GO-2005") from error
    if data.pop("version", None) != VERSION:
        raise UsageError(f"recipe {str(path)!r} must say version = {VERSION}", code="GO-2005")
    for key, value in data.items():
        if key not in _TYPES:
            raise UsageError(
                f"recipe {str(path)!r} has an unknown key {key!r}",
                code="GO-2005",
                hint=did_you_mean(key, _TYPES) or f"the keys are version, {', '.join(_TYPES)}",
            )
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise UsageError(f"recipe {str(path)!r}: {key} must be {_TYPES[key].__name__}", code="GO-2005")
    if data.get("draws", 1) < 1:
        raise UsageError(f"recipe {str(path)!r}: draws must be at least 1", code="GO-2005")
    if data.get("verify", "final") not in _MODES:
        raise UsageError(f"recipe {str(path)!r}: verify must be one of {', '.join(_MODES)}", code="GO-2005")
    data["dims"] = {name: _dim(path, name, size) for name, size in data.get("dims", {}).items()}
    return data


def _dim(path: Path, name: str, size: Any) -> Any:
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    if (
        isinstance(size, dict)
        and set(size) == {"min", "max"}
        and all(isinstance(v, int) for v in size.values())
    ):
        return (size["min"], size["max"])
    raise UsageError(
        f"recipe {str(path)!r}: dims.{name} must be a size or {{ min = ..., max = ... }}", code="GO-2005"
    )
