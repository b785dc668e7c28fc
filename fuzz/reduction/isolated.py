"""Oracles in a process of their own, for cases that kill theirs or do not end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from graphopt.fuzz.campaign.corpus import NamedCase
from graphopt.fuzz.campaign.plan import Chunk
from graphopt.fuzz.campaign.sandbox import Sandbox
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles import Subject
from graphopt.fuzz.oracles.oracle import Cost

KINDS = ("crash", "timeout")
"""Kinds of problems that only somebody outside of the process sees."""

_SECONDS = 120.0


class Isolated:
    """What a campaign's worker finds in a case, its end included.

    Args:
        backends: whose oracles look too.
        seconds: after which a case counts as one that does not end.
        settings: of a campaign whose worker it is to be, in place of the others.
    """

    name = "isolated"
    cost: Cost = "compile"

    def __init__(
        self, backends: tuple[str, ...] = (), seconds: float = _SECONDS, settings: Settings | None = None
    ) -> None:
        settings = settings or Settings(backends=backends, timeout=seconds)
        self._sandbox = Sandbox(replace(settings, thorough=True))

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        result = self._sandbox.run(Chunk("corpus", (0,), (NamedCase("case", subject.case),)))
        yield from result.records[0].problems

    def close(self) -> None:
        """Ends the process."""
        self._sandbox.release()


def needs_isolation(signature: Signature) -> bool:
    """Whether a finding has to be looked at from outside."""
    return signature.kind in KINDS
