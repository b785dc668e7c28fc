"""Coverage of behaviours: which operators, attributes, rules and passes a campaign exercised."""

from graphopt.fuzz.coverage.behaviour import SECTIONS, Behaviour

__all__ = ["SECTIONS", "Behaviour"]
