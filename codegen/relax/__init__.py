"""Program -> Relax, by a converter table of graphopt's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.codegen.relax.lowering import LoweredModule, lower
    from graphopt.codegen.relax.registry import converter_table, register_converter

__all__ = ["LoweredModule", "converter_table", "lower", "register_converter"]

_HOME = {
    "LoweredModule": "lowering",
    "lower": "lowering",
    "converter_table": "registry",
    "register_converter": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
