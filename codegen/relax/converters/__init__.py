"""The converters, one family of operators a module."""

from __future__ import annotations

import importlib

_FAMILIES = (
    "pointwise",
    "activation",
    "convolution",
    "pooling",
    "shape",
    "resize",
    "reduction",
    "extremes",
    "linear",
    "normalization",
    "creation",
    "indexing",
    "padding",
    "scan",
    "attention",
    "recurrent",
    "complex",
    "dialect",
)


def load() -> None:
    """Imports every family, which registers its converters."""
    for family in _FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
