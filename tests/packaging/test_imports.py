"""Imports stay light, and layers import downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "tvm", "onnx", "onnxruntime", "transformers", "numpy", "sympy")
LOWER = ("graphopt.passes", "graphopt.codegen", "graphopt.fuzz")


@pytest.mark.parametrize(
    "statement", ["import graphopt", "from graphopt.cli.main import run; run(['--help'])"]
)
def test_nothing_heavy_is_imported(statement: str) -> None:
    code = f"import sys; {statement}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_the_core_imports_the_other_packages_only_inside_functions() -> None:
    import graphopt

    root = Path(graphopt.__file__).parent
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in ("passes", "codegen", "fuzz"):
            continue
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert not name.startswith(LOWER), f"{path} imports {name} at module level"
