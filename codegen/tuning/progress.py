"""What ``graphopt tune`` shows while it measures: a bar on a terminal, lines elsewhere, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from graphopt.codegen.tuning.database import FASTER, Record
from graphopt.codegen.tuning.session import Session, Task, Watcher

_EVERY = 32
"""Trials between two lines where nothing was won and there is no terminal."""


@contextmanager
def progress(trials: int, minutes: float | None, *, quiet: bool = False) -> Iterator[Watcher]:
    """A watcher that shows the best so far, for as long as the block runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
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
            yield _Bar(console, bar, trials, minutes)


class _Lines(Watcher):
    def __init__(self, console: Console) -> None:
        self.console = console

    def measured_default(self, session: Session, task: Task) -> None:
        if task.problem is not None:
            self.console.print(f"{task.kernel.name}: cannot be tuned: {task.problem}")
        elif all(t.default_microseconds is not None or t.problem for t in session.tasks):
            before, _ = session.milliseconds
            self.console.print(f"{len(session.tasks)} kernels measured: {before:.3f} ms")

    def tried(self, session: Session, task: Task, record: Record) -> None:
        number = session.known_trials + session.trials
        if record.status == FASTER:
            self.console.print(f"trial {number}: {_won(task, record)}; {_so_far(session)}")
        elif session.trials % _EVERY == 0:
            self.console.print(f"trial {number}: {_so_far(session)}")


class _Bar(_Lines):
    def __init__(self, console: Console, bar: Progress, trials: int, minutes: float | None) -> None:
        super().__init__(console)
        self.bar = bar
        self.start = time.monotonic()
        self.seconds = None if minutes is None else 60 * minutes
        total = self.seconds if self.seconds is not None else trials
        self.row = bar.add_task("measuring the default schedules", total=total)

    def measured_default(self, session: Session, task: Task) -> None:
        super().measured_default(session, task)
        self._show(session, "measuring the default schedules")

    def tried(self, session: Session, task: Task, record: Record) -> None:
        if record.status == FASTER:
            self.console.print(_won(task, record))
        number = session.known_trials + session.trials
        self._show(session, f"trial {number}: {_so_far(session)}")

    def _show(self, session: Session, text: str) -> None:
        elapsed = time.monotonic() - self.start
        done = elapsed if self.seconds is not None else session.known_trials + session.trials
        self.bar.update(self.row, description=text, completed=done)


def _won(task: Task, record: Record) -> str:
    decided = ", ".join(f"{name}={value}" for name, value in record.decisions.items())
    before = task.default_microseconds or 0.0
    return f"{task.kernel.name} {before:.1f} -> {task.microseconds:.1f} us ({task.gain:.2f}x; {decided})"


def _so_far(session: Session) -> str:
    before, after = session.milliseconds
    return f"all kernels {before:.3f} -> {after:.3f} ms"
