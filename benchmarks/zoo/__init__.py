"""The models that graphopt is measured on.

``names()`` lists them; ``get("resnet50")`` builds one and ``get("resnet50", size="small")`` a narrow,
two-layer variant of the same architecture for tests.  Importing this package imports neither torch
nor transformers; building a model says which package is missing, if one is.
"""

from benchmarks.zoo import (  # noqa: F401  (importing a family registers its models)
    bert,
    convnets,
    deepseek,
    detr,
    gpt2,
    llama,
    minilm,
    ppocr,
    qwen,
    t5,
    vision_transformers,
    whisper,
)
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Entry, MissingRequirement, entry, get, names

__all__ = ["Entry", "MissingRequirement", "Model", "entry", "get", "names"]
