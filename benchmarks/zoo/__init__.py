"""The models that graphopt is measured on.

``names()`` lists them; ``get("resnet50")`` builds one and ``get("resnet50", size="small")`` a narrow,
two-layer variant of the same architecture for tests.  Importing this package imports neither torch
nor transformers; building a model says which package is missing, if one is.
"""

from benchmarks.zoo.registry import MissingRequirement, entry, get, names
from benchmarks.zoo.table import Entry

__all__ = ["Entry", "MissingRequirement", "entry", "get", "names"]
