"""A campaign from its settings to its report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from graphopt.fuzz.campaign.corpus import NamedCase
from graphopt.fuzz.campaign.journal import Journal
from graphopt.fuzz.campaign.local import Executor
from graphopt.fuzz.campaign.plan import Chunk, chunks
from graphopt.fuzz.campaign.records import ChunkResult
from graphopt.fuzz.campaign.report import CampaignReport, ReportedFinding, idle_problems, report_of
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.campaign.tally import Group, Tally
from graphopt.fuzz.campaign.watcher import Watcher
from graphopt.fuzz.coverage.universe import Universe
from graphopt.fuzz.known import KnownIssue


@dataclass
class Campaign:
    """One campaign.

    Attributes:
        settings: what to do.
        corpus: cases that have to pass.
        issues: what findings are compared with, and whose scripts may be run.
        journal: where results are kept as they come.
        done: results of an earlier, interrupted run.
        watcher: told how it goes.
    """

    settings: Settings
    corpus: Sequence[NamedCase] = ()
    issues: Sequence[KnownIssue] = ()
    journal: Journal | None = None
    done: Sequence[ChunkResult] = ()
    watcher: Watcher = field(default_factory=Watcher)

    def run(self, executor: Executor) -> CampaignReport:
        """Runs everything.

        An interrupt (Ctrl-C) ends the work, not the call: the report says so and holds what was done.

        Raises:
            InternalError: workers do not start.
            TargetError: GO-6003, the cluster is gone.
        """
        start = time.monotonic()
        tally = Tally()
        universe = Universe.of(self.settings.passes)
        for result in self.done:
            self.watcher.progressed(tally, tally.add(result))
        interrupted = False
        try:
            with contextlib.closing(executor.run(self._chunks(start))) as results:
                for result in results:
                    if self.journal is not None:
                        self.journal.append(result)
                    self.watcher.progressed(tally, tally.add(result))
        except KeyboardInterrupt:
            interrupted = True
        return report_of(
            self.settings,
            tally,
            self._findings(tally, universe, interrupted),
            universe,
            fixed=self._fixed(tally),
            seconds=time.monotonic() - start,
            interrupted=interrupted,
        )

    def _chunks(self, start: float) -> Iterator[Chunk]:
        """What is left to do; nothing begins once the time is over."""
        finished = {result.chunk.key for result in self.done}
        scripts = [(i.id, i.script.read_text(encoding="utf-8")) for i in self.issues]
        for chunk in chunks(self.settings, self.corpus, scripts):
            if self.settings.seconds is not None and time.monotonic() - start >= self.settings.seconds:
                return
            if chunk.key not in finished:
                yield chunk

    def _findings(self, tally: Tally, universe: Universe, interrupted: bool) -> list[ReportedFinding]:
        found = [self._finding(group) for group in tally.sorted_groups()]
        if self.settings.require_firings and not interrupted:
            for problem in idle_problems(universe, tally.behaviour):
                found.append(ReportedFinding(problem, "new", ()))
        return found

    def _finding(self, group: Group) -> ReportedFinding:
        issue = next((i for i in self.issues if i.explains(group.problem.signature)), None)
        return ReportedFinding(
            group.problem,
            "known" if issue else "new",
            tuple(group.labels),
            group.oracle,
            group.record.case,
            issue.id if issue else None,
        )

    def _fixed(self, tally: Tally) -> list[str]:
        """Known issues whose script no longer shows them."""
        return sorted(row.label for row in tally.rows if row.status == "gone")
