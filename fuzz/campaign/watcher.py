"""Who is told how a campaign goes."""

from __future__ import annotations

from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.campaign.tally import Tally
from graphopt.fuzz.findings import Problem


class Watcher:
    """Told about everything; this one does nothing with it."""

    def started(self, settings: Settings, where: str) -> None:
        """The campaign begins; ``where`` says who does the work."""

    def progressed(self, tally: Tally, new: list[Problem]) -> None:
        """A chunk is done; ``new`` are problems of signatures not seen before."""

    def reducing(self, done: int, total: int) -> None:
        """Findings are being made small."""
