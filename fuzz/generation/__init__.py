"""Generation: random graphs, each a case for passes and code generators."""

from graphopt.fuzz.generation.generate import generate
from graphopt.fuzz.generation.options import SOURCES, Options, Source

__all__ = ["SOURCES", "Options", "Source", "generate"]
