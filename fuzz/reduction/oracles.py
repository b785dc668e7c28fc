"""Oracles by name."""

from __future__ import annotations

from graphopt.errors import UsageError, did_you_mean
from graphopt.fuzz.findings import Signature
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


def oracle_for(signature: Signature, name: str) -> Oracle:
    """The oracle that sees a finding again: where the finding is a crash, one in another process.

    Args:
        name: of the oracle that saw it first.

    Raises:
        UsageError: there is none of this name.
    """
    from graphopt.fuzz.reduction.isolated import Isolated, needs_isolation

    if not needs_isolation(signature):
        return oracle_named(name)
    cheap = {o.name for o in known_oracles().values() if o.cost == "milliseconds"}
    return Isolated(() if signature.oracle in cheap else BACKENDS)
