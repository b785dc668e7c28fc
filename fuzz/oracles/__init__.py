"""Oracles: properties that every case has to have, checked by the contracts that passes declare."""

from collections.abc import Sequence

from graphopt.fuzz.oracles.oracle import Oracle
from graphopt.fuzz.oracles.subject import Subject

__all__ = ["Oracle", "Subject", "pass_oracles"]


def pass_oracles() -> Sequence[Oracle]:
    """The properties of passes, cheap and fundamental ones first; milliseconds each."""
    from graphopt.fuzz.oracles.contract import Contract
    from graphopt.fuzz.oracles.gradients import Gradients
    from graphopt.fuzz.oracles.invariants import Invariants, Untouched
    from graphopt.fuzz.oracles.repeated import Fixpoint, NoOperation
    from graphopt.fuzz.oracles.rules import Firing
    from graphopt.fuzz.oracles.variants import Sharing, Variants

    return (
        Invariants(),
        Untouched(),
        NoOperation(),
        Firing(),
        Contract(),
        Sharing(),
        Gradients(),
        Fixpoint(),
        Variants(),
    )
