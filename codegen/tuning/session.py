"""One run of the tuner: which kernel to try next, until the budget is spent or the user stops it.

Trials go where time is: to the kernel whose calls take longest now, less for each trial there since
one was faster.  (In the spirit of the task scheduler of Zheng et al., "Ansor", OSDI 2020, section 6.)
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.codegen.tuning.database import (
    DEFAULT,
    FAILED,
    FASTER,
    FORGET,
    INVALID,
    SLOWER,
    WRONG,
    Record,
    TuningDatabase,
    as_line,
)
from graphopt.codegen.tuning.kernel import Kernel
from graphopt.codegen.tuning.measuring import Measuring
from graphopt.codegen.tuning.report import KernelReport
from graphopt.codegen.tuning.search import Point, point, propose

LEAST_GAIN = 1.04
"""What is not faster by that much is noise, and not recorded as faster."""

_DEFAULT_ROUNDS, _ROUNDS, _CONFIRMING_ROUNDS = 7, 4, 16
_CALM, _CALM_TRIES, _PAUSE = 1.2, 4, 0.5
_VISIT = 8
"""Trials on a kernel before another one may be due."""


@dataclass
class Budget:
    """When to stop: after so many trials on these kernels, earlier runs included, or at a time.

    Attributes:
        trials: None: no limit.
        deadline: as of :func:`time.monotonic`; None: no limit.
    """

    trials: int | None = None
    deadline: float | None = None

    def spent(self, trials: int) -> bool:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or (self.trials is not None and trials >= self.trials)


class Watcher:
    """Told what happens; every method may be left as it is."""

    def measured_default(self, session: Session, task: Task) -> None:
        """A kernel's default schedule was measured."""

    def tried(self, session: Session, task: Task, record: Record) -> None:
        """A schedule was tried."""


class Task:
    """What is known of one kernel."""

    def __init__(self, kernel: Kernel, target: str, database: TuningDatabase) -> None:
        self.kernel = kernel
        self.target = target
        self.database = database
        self.tried: set[Point] = set()
        self.trials = self.rejected = self.stale = 0
        self.problem: str | None = None
        self.exhausted = False
        for record in database.of_kernel(kernel.key):
            self._note(record)

    @property
    def default_microseconds(self) -> float | None:
        """Of one call of the default schedule."""
        return self.database.default_microseconds(self.kernel.key)

    @property
    def best(self) -> Record | None:
        return self.database.best(self.kernel.key)

    @property
    def microseconds(self) -> float:
        """Of one call of the best schedule."""
        best = self.best
        return (best.microseconds if best else self.default_microseconds) or 0.0

    @property
    def gain(self) -> float:
        """How many times faster the best schedule is than the default."""
        return (self.default_microseconds or 1.0) / (self.microseconds or 1.0)

    @property
    def priority(self) -> float:
        return self.kernel.calls * self.microseconds / (4 + self.stale)

    def record(
        self,
        status: str,
        decisions: dict[str, int] | None = None,
        microseconds: float | None = None,
        default_microseconds: float | None = None,
        reason: str | None = None,
    ) -> Record:
        """Adds a record of this kernel to the database."""
        made = Record(
            self.kernel.key,
            self.target,
            self.kernel.name,
            status,
            decisions or {},
            microseconds,
            default_microseconds,
            None if reason is None else as_line(reason),
        )
        self.database.add(made)
        self._note(made)
        return made

    def report(self) -> KernelReport:
        kernel, best = self.kernel, self.best
        return KernelReport(
            kernel.name,
            kernel.rule,
            kernel.calls,
            self.default_microseconds,
            self.microseconds if self.default_microseconds else None,
            self.trials,
            self.rejected,
            best.decisions if best else {},
            self.problem,
        )

    def _note(self, record: Record) -> None:
        if record.status == DEFAULT:
            return
        place = point(self.kernel.space, record.decisions)
        if place in self.tried:
            return  # a second opinion, no trial
        self.tried.add(place)
        if record.status == INVALID:
            return
        self.trials += 1
        self.stale += 1
        self.rejected += record.status in (WRONG, FAILED)
        if record.status == FASTER:
            self.stale = 0


class Session:
    """Tunes kernels until the budget is spent.

    Args:
        kernels: distinct ones; those that cannot be tuned are only reported.
        target: key of the target and the rules.
        fresh: forget what the database knows of these kernels.
        seed: of the search.
    """

    def __init__(
        self,
        kernels: Sequence[Kernel],
        target: str,
        database: TuningDatabase,
        measuring: Measuring,
        budget: Budget,
        *,
        watcher: Watcher | None = None,
        fresh: bool = False,
        seed: int = 0,
    ) -> None:
        self.database = database
        self.measuring = measuring
        self.budget = budget
        self.watcher = watcher or Watcher()
        self.skipped = [k for k in kernels if k.skipped is not None]
        self.tasks: list[Task] = []
        for kernel in kernels:
            if kernel.skipped is not None:
                continue
            if fresh and database.of_kernel(kernel.key):
                database.add(Record(kernel.key, target, kernel.name, FORGET))
            self.tasks.append(Task(kernel, target, database))
        self.known_trials = sum(t.trials for t in self.tasks)
        self.interrupted = False
        self._generator = random.Random(seed + self.known_trials)

    @property
    def trials(self) -> int:
        """Of this run."""
        return sum(t.trials for t in self.tasks) - self.known_trials

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Time of all kernels' calls: by default, and with what was found so far."""
        before = sum(t.kernel.calls * (t.default_microseconds or 0.0) for t in self.tasks)
        after = sum(t.kernel.calls * t.microseconds for t in self.tasks)
        return before / 1e3, after / 1e3

    def run(self) -> None:
        """Measures until there is nothing left to do; an interrupt ends it, and is noted."""
        try:
            self._measure_defaults()
            while task := self._next():
                for _ in range(_VISIT):
                    if self._spent() or not self._try(task):
                        break
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.measuring.close()

    def report(self) -> list[KernelReport]:
        """All kernels, the most expensive ones first, then those that were not tuned."""
        tuned = sorted(
            self.tasks, key=lambda t: t.kernel.calls * (t.default_microseconds or 0.0), reverse=True
        )
        skipped = [KernelReport(k.name, k.rule, k.calls, skipped=k.skipped) for k in self.skipped]
        return [*(t.report() for t in tuned), *skipped]

    def _spent(self) -> bool:
        return self.budget.spent(self.known_trials + self.trials)

    def _next(self) -> Task | None:
        if self._spent():
            return None
        open_tasks = [t for t in self.tasks if not t.exhausted and t.problem is None]
        return max(open_tasks, key=lambda t: t.priority, default=None)

    def _measure_defaults(self) -> None:
        for task in self.tasks:
            if task.default_microseconds is not None or task.problem is not None or self._spent():
                continue
            answer = self.measuring.default(task.kernel, _DEFAULT_ROUNDS)
            if "microseconds" in answer:
                task.record(DEFAULT, microseconds=answer["microseconds"])
            else:
                task.problem = as_line(answer["reason"])  # not recorded: the next run tries again
            self.watcher.measured_default(self, task)

    def _try(self, task: Task) -> bool:
        """One trial; False when there is nothing left to try."""
        best = task.best
        decisions = propose(task.kernel.space, task.tried, best.decisions if best else {}, self._generator)
        if decisions is None:
            task.exhausted = True
            return False
        answer = self.measuring.attempt(task.kernel, decisions, _ROUNDS)
        to_beat = max(LEAST_GAIN, task.gain)
        if answer["status"] == "measured" and _gain(answer) > to_beat:
            # The first measurement of the best of many is too good: what counts is a second one.
            answer = self._confirm(task, decisions)
        if answer["status"] == "measured":
            better = answer["microseconds"] < task.microseconds and _gain(answer) > LEAST_GAIN
            answer["status"] = FASTER if better else SLOWER
        record = task.record(decisions=decisions, **answer)
        self.watcher.tried(self, task, record)
        return True

    def _confirm(self, task: Task, decisions: dict[str, int]) -> dict[str, Any]:
        """A longer measurement, repeated while the machine is busy with something else.

        The default counts as fast as it ever was, so that a busy machine never makes a winner.
        """
        default = task.default_microseconds
        assert default is not None
        for _ in range(_CALM_TRIES):
            answer = self.measuring.attempt(task.kernel, decisions, _CONFIRMING_ROUNDS)
            if answer["status"] != "measured":
                break
            calm = answer["default_microseconds"] <= _CALM * default
            answer["default_microseconds"] = min(answer["default_microseconds"], default)
            if calm:
                break
            time.sleep(_PAUSE)
        return answer


def _gain(answer: dict[str, float]) -> float:
    return answer["default_microseconds"] / answer["microseconds"]
