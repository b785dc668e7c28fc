"""What tuning did, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class KernelReport:
    """One kernel.

    Attributes:
        name, rule: as the artifact lists them.
        calls: places of the program that call it.
        default_microseconds: of one call of the default schedule; None: not measured.
        tuned_microseconds: of one call of the best schedule; the default's if none is faster.
        trials: schedules that were measured or failed, in this run and before.
        rejected: those of them that failed or computed something else.
        decisions: of the best schedule, those that differ from the defaults.
        skipped: why it was not tuned, if it was not.
    """

    name: str
    rule: str
    calls: int
    default_microseconds: float | None = None
    tuned_microseconds: float | None = None
    trials: int = 0
    rejected: int = 0
    decisions: Mapping[str, int] = field(default_factory=dict)
    skipped: str | None = None

    @property
    def gain(self) -> float:
        """How many times faster the best schedule is than the default."""
        if not self.default_microseconds or not self.tuned_microseconds:
            return 1.0
        return self.default_microseconds / self.tuned_microseconds


@dataclass
class ModelLatency:
    """The whole model before and after, in processes that take turns.

    Attributes:
        before, after: milliseconds, the minimum over the runs.
        gain: the median over the turns of before / after.
    """

    before: float
    after: float
    gain: float


@dataclass
class TuneReport:
    """What :func:`graphopt.tune` did.

    Attributes:
        target: name of the target.
        database: the file with the records.
        kernels: the most expensive ones first.
        trials: schedules that were tried in this run.
        seconds: that it took.
        interrupted: it was stopped by the user; everything measured so far is kept.
        latency: of the whole model; None where nothing was won or it was not measured.
        only_alone: schedules that were faster alone, but not inside the model, and are not used.
        warnings: about the database, and records that could not be applied.
    """

    target: str
    database: Path
    kernels: Sequence[KernelReport]
    trials: int
    seconds: float
    interrupted: bool = False
    latency: ModelLatency | None = None
    only_alone: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def kernel_milliseconds(self) -> tuple[float, float]:
        """Time in all measured kernels, before and after, from their own measurements."""
        before = sum(k.calls * (k.default_microseconds or 0.0) for k in self.kernels)
        after = sum(k.calls * (k.tuned_microseconds or 0.0) for k in self.kernels)
        return before / 1e3, after / 1e3

    def to_dict(self) -> dict[str, Any]:
        before, after = self.kernel_milliseconds
        return {
            "schema": "graphopt.tune/1",
            "target": self.target,
            "database": str(self.database),
            "trials": self.trials,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "kernels_ms": {"before": round(before, 4), "after": round(after, 4)},
            "latency": None if self.latency is None else dict(self.latency.__dict__),
            "only_alone": self.only_alone,
            "warnings": self.warnings,
            "kernels": [
                {
                    "name": k.name,
                    "rule": k.rule,
                    "calls": k.calls,
                    "default_us": k.default_microseconds,
                    "tuned_us": k.tuned_microseconds,
                    "gain": round(k.gain, 4),
                    "trials": k.trials,
                    "rejected": k.rejected,
                    "decisions": dict(k.decisions),
                    "skipped": k.skipped,
                }
                for k in self.kernels
            ],
        }
