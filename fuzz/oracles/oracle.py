"""An oracle: a property that every case has to have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from graphopt.fuzz.findings import Problem
from graphopt.fuzz.oracles.subject import Subject

Cost = Literal["milliseconds", "export", "compile"]


class Oracle(Protocol):
    """A property of cases.

    Attributes:
        name: kebab-case.
        cost: what a check takes: ``milliseconds``; that of an ``export`` to ONNX with sessions of
            onnxruntime; that of a ``compile``.
    """

    name: str
    cost: Cost

    def applies(self, subject: Subject) -> bool:
        """Whether the property says anything about this case."""
        ...

    def check(self, subject: Subject) -> Iterator[Problem]:
        """Every way in which the case does not have the property.

        Whatever the code under test raises is a problem, not an exception of the oracle's.
        """
        ...
