"""The written table of operators: how each is added to a graph after a value, or before an input.

Operators are those of torch.export's training IR.  The simplest come first, which is where shrinking ends.
"""

from __future__ import annotations

from graphopt.fuzz.generation.specs.elementwise import ACTIVATIONS, BINARY, CASTS, UNARY
from graphopt.fuzz.generation.specs.movement import INDEXING, JOINS, SHAPES
from graphopt.fuzz.generation.specs.products import PRODUCTS
from graphopt.fuzz.generation.specs.reductions import NORMALISATIONS, REDUCTIONS
from graphopt.fuzz.generation.specs.spec import Spec
from graphopt.fuzz.generation.specs.windows import WINDOWS

FAMILIES: tuple[tuple[str, tuple[Spec, ...], float], ...] = (
    ("activations", ACTIVATIONS, 2.0),
    ("binary", BINARY, 3.0),
    ("shapes", SHAPES, 2.5),
    ("unary", UNARY, 1.0),
    ("joins", JOINS, 1.5),
    ("reductions", REDUCTIONS, 1.0),
    ("normalisations", NORMALISATIONS, 1.5),
    ("products", PRODUCTS, 2.0),
    ("windows", WINDOWS, 2.0),
    ("casts", CASTS, 0.5),
    ("indexing", INDEXING, 0.5),
)
"""``(family, operators, how often)``."""

SPECS: tuple[Spec, ...] = tuple(spec for _, specs, _ in FAMILIES for spec in specs)

__all__ = ["FAMILIES", "SPECS", "Spec"]
