"""Cleanup: rewrites that change how a program is written and nothing that it computes."""

from __future__ import annotations

import importlib
from typing import Any

_CLASSES = {
    "Cleanup": "pipeline",
    "ConstantFolding": "constant_folding",
    "CommonSubexpressions": "common_subexpressions",
    "DeadCode": "dead_code",
    **dict.fromkeys(
        ("Identities", "Shapes", "Scalars", "Linears", "Activations", "Norms", "Attention", "LayerWeights"),
        "families",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"graphopt.passes.cleanup has no {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_CLASSES)
