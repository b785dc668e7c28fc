"""Code generation: a program becomes one shared library for a target.

Names are loaded when they are first used: TVM takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.codegen.artifact import Artifact, Kernel, load_artifact
    from graphopt.codegen.compiler import compile
    from graphopt.codegen.targets import Target, find_target, list_targets

__all__ = ["Artifact", "Kernel", "Target", "compile", "find_target", "list_targets", "load_artifact"]

_HOME = {
    "Artifact": "artifact",
    "Kernel": "artifact",
    "load_artifact": "artifact",
    "compile": "compiler",
    "Target": "targets",
    "find_target": "targets",
    "list_targets": "targets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
