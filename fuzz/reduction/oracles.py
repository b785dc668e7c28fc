"""Oracles by name."""

from __future__ import annotations

from graphopt.errors import UsageError, did_you_mean
from graphopt.fuzz.oracles import Oracle

BACKENDS = ("ort", "cpu")
"""Whose oracles are known by name: those whose code runs on every machine."""


def known_oracles() -> dict[str, Oracle]:
    """Every oracle, cheap ones first."""
    from graphopt.fuzz.oracles import backend_oracles, pass_oracles

    return {oracle.name: oracle for oracle in (*pass_oracles(), *backend_oracles(BACKENDS))}


def oracle_named(name: str) -> Oracle:
    """The oracle of a name.

    Raises:
        UsageError: there is none.
    """
    oracles = known_oracles()
    if name not in oracles:
        raise UsageError(f"there is no oracle {name!r}", hint=did_you_mean(name, oracles))
    return oracles[name]
