"""Imports stay light, and layers import downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("torch", "tvm", "onnx", "onnxruntime", "transformers", "numpy", "sympy")
LOWER = ("graphopt.passes", "graphopt.codegen", "graphopt.fuzz")
# What the modules of each room of graphopt/ import at module level, beside their own room's and the
# single modules (contract, errors, files, recipe, _torch).
BELOW: dict[str, set[str]] = {
    "ir": set(),
    "dialect": set(),
    "rewriting": {"ir"},
    "verification": {"ir"},
    "passmanager": {"ir", "rewriting", "verification"},
    "frontends": {"ir"},
    "exporters": {"ir"},
    "workflows": {"ir", "rewriting", "verification", "passmanager"},
    "cli": {"workflows"},
}


@pytest.mark.parametrize(
    "statement", ["import graphopt", "from graphopt.cli.main import run; run(['--help'])"]
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"import sys; {statement}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def module_level_imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports as it is loaded."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def sources() -> Iterator[tuple[Path, str]]:
    """The modules of graphopt/ itself, each with its room ("" for single modules)."""
    import graphopt

    root = Path(graphopt.__file__).parent
    for path in root.rglob("*.py"):
        first, *rest = path.relative_to(root).parts
        if first not in ("passes", "codegen", "fuzz"):
            yield path, first if rest else ""


def test_the_core_imports_the_other_packages_only_inside_functions() -> None:
    for path, _ in sources():
        for name in module_level_imports(path):
            assert not name.startswith(LOWER), f"{path} imports {name} at module level"


def test_rooms_import_the_rooms_below_them_only() -> None:
    seen = set()
    for path, room in sources():
        if not room:
            continue
        seen.add(room)
        for name in module_level_imports(path):
            parts = name.split(".")
            if parts[0] == "graphopt" and len(parts) > 1 and parts[1] in BELOW and parts[1] != room:
                assert parts[1] in BELOW[room], f"{path} imports {name}: {room} stands below {parts[1]}"
    assert seen == set(BELOW)
