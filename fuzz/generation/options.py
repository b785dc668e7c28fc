"""What a generator is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from graphopt.fuzz.rules import DEFAULT_PATH

Source = Literal["recorded", "inferred", "template", "written"]

SOURCES: tuple[Source, ...] = ("recorded", "inferred", "template", "written")
"""Where operators come from: calls recorded from torch's own tests and from models; inferred rules, solved
for what stands in the graph; templates of rewrite rules and of blocks of models; and the written table
of :mod:`graphopt.fuzz.generation.specs`."""


def default_sources() -> tuple[tuple[Source, float], ...]:
    """A third each of recorded and inferred operators and templates; of the written table, while there is
    no file of rules."""
    if DEFAULT_PATH.exists():
        return (("recorded", 1.0), ("inferred", 1.0), ("template", 1.0))
    return (("written", 2.0), ("template", 1.0))


@dataclass(frozen=True)
class Options:
    """How graphs are drawn.

    Attributes:
        operators: least and greatest number of operators, beside those of a template.
        sources: ``(source, weight)`` of the source most of a graph comes from.
        dtypes: ``(dtype, weight)`` of the first input.
        dynamic: probability of a dynamic axis.  It takes torch.export, a second a case.
        backward: probability that an operator is put before an input rather than after a value.
        near_miss: probability that a rewrite rule's template is a near miss.
        block: probability that a template is a block of a model rather than one of a rewrite rule.
        intruding: probability that an intermediate value of a rule's template gets a user outside of it.
            Such a case expects nothing of the rule.
        elements: the most that a tensor may have.
        screened: whether unstable graphs are drawn again; see :mod:`graphopt.fuzz.generation.screening`.
        passes: of every case.
    """

    operators: tuple[int, int] = (4, 10)
    sources: tuple[tuple[Source, float], ...] = field(default_factory=default_sources)
    dtypes: tuple[tuple[str, float], ...] = (
        ("float32", 12.0),
        ("float16", 2.0),
        ("bfloat16", 2.0),
        ("float64", 2.0),
        ("int64", 1.0),
        ("int32", 1.0),
        ("uint8", 0.5),
        ("int8", 0.5),
        ("bool", 0.5),
    )
    dynamic: float = 0.03
    backward: float = 0.5
    near_miss: float = 0.5
    block: float = 0.25
    intruding: float = 0.1
    elements: int = 4096
    screened: bool = True
    passes: tuple[str, ...] = ("cleanup",)
