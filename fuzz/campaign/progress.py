"""What ``graphopt fuzz`` shows while it runs: a bar on a terminal, lines elsewhere, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.campaign.tally import Tally
from graphopt.fuzz.campaign.watcher import Watcher
from graphopt.fuzz.findings import Problem

_EVERY_SECONDS = 10.0
"""Between two lines where there is no terminal."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Watcher]:
    """A watcher that shows cases a second, coverage and findings, for as long as the block runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if quiet:
        yield Watcher()
    elif not console.is_terminal:
        yield _Lines(console)
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield _Bar(console, bar)


class _Lines(Watcher):
    def __init__(self, console: Console) -> None:
        self.console = console
        self.begin = self.last = time.monotonic()

    def started(self, settings: Settings, where: str) -> None:
        cases = len(settings.only) if settings.only else settings.cases
        budgets = [f"{cases} cases"] if cases is not None else []
        budgets += [f"{settings.seconds:g} s"] if settings.seconds is not None else []
        budget = " or ".join(budgets)
        self.console.print(f"fuzzing with seed {settings.seed}: {budget}, {where}")
        self.begin = self.last = time.monotonic()

    def progressed(self, tally: Tally, new: list[Problem]) -> None:
        for problem in new:
            self.console.print(f"found {problem.signature}")
        if time.monotonic() - self.last >= _EVERY_SECONDS:
            self.last = time.monotonic()
            self.console.print(self.line(tally))

    def reducing(self, done: int, total: int) -> None:
        self.console.print(f"reduced {done} of {total} findings")

    def line(self, tally: Tally) -> str:
        """The state of a campaign in a line."""
        rate = len(tally.rows) / max(time.monotonic() - self.begin, 1e-3)
        fired = len({rule for rule, outcome, _ in tally.behaviour.counts["rules"] if outcome == "fired"})
        covered = f"{len(tally.behaviour.values('operators', 'operator'))} operators, {fired} rules fired"
        return f"{len(tally.rows)} cases, {rate:.1f}/s; {covered}; {len(tally.groups)} signatures found"


class _Bar(_Lines):
    def __init__(self, console: Console, bar: Progress) -> None:
        super().__init__(console)
        self.bar = bar
        self.row = bar.add_task("starting workers", total=None)
        self.settings = Settings()

    def started(self, settings: Settings, where: str) -> None:
        super().started(settings, where)
        self.settings = settings
        self.bar.update(self.row, total=settings.cases or settings.seconds)

    def progressed(self, tally: Tally, new: list[Problem]) -> None:
        for problem in new:
            self.console.print(f"found {problem.signature}")
        elapsed = time.monotonic() - self.begin
        done = tally.count("passes") if self.settings.cases else elapsed
        self.bar.update(self.row, description=self.line(tally), completed=done)

    def reducing(self, done: int, total: int) -> None:
        self.bar.update(self.row, description="making findings small", completed=done, total=total)
