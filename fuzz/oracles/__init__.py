"""Oracles: properties that every case has to have, checked by the contracts that passes declare."""

from graphopt.fuzz.oracles.oracle import Oracle
from graphopt.fuzz.oracles.subject import Subject

__all__ = ["Oracle", "Subject"]
