"""The passes that come with graphopt, one package a transformation.

``graphopt.passes.Cleanup`` and the other classes are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

BUILTIN: dict[str, str] = {
    "cleanup": "graphopt.passes.cleanup:Cleanup",
    "canonical-scalars": "graphopt.passes.cleanup:Scalars",
    "canonical-shapes": "graphopt.passes.cleanup:Shapes",
    "common-subexpressions": "graphopt.passes.cleanup:CommonSubexpressions",
    "constant-folding": "graphopt.passes.cleanup:ConstantFolding",
    "dead-code": "graphopt.passes.cleanup:DeadCode",
    "fold-into-weights": "graphopt.passes.cleanup:LayerWeights",
    "fuse-activations": "graphopt.passes.cleanup:Activations",
    "fuse-attention": "graphopt.passes.cleanup:Attention",
    "fuse-linear": "graphopt.passes.cleanup:Linears",
    "fuse-norms": "graphopt.passes.cleanup:Norms",
    "remove-identities": "graphopt.passes.cleanup:Identities",
}
"""Name of each pass to ``module:class``."""

_CLASSES = {location.partition(":")[2]: location for location in BUILTIN.values()}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"graphopt.passes has no pass class {name!r}")
    module, _, attribute = _CLASSES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(_CLASSES)
