"""What a campaign found so far: problems grouped by signature, and counts that do not depend on order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from graphopt.fuzz.campaign.records import CaseRecord, ChunkResult
from graphopt.fuzz.coverage import Behaviour
from graphopt.fuzz.findings import Problem, Signature


@dataclass
class Group:
    """Everything with one signature.

    Attributes:
        record: of the first case that shows it, in the campaign's order.
        problem: as that case shows it.
        oracle: that saw it; empty where none did.
        cases: ``(order, label)`` of all that do.
    """

    record: CaseRecord
    problem: Problem
    oracle: str
    cases: list[tuple[tuple[int, int], str]]

    @property
    def labels(self) -> list[str]:
        """Names of the cases, in the campaign's order."""
        return [label for _, label in sorted(self.cases)]


@dataclass(frozen=True)
class Row:
    """One case in ``status.csv``."""

    order: tuple[int, int]
    label: str
    stream: str
    status: str
    signatures: tuple[str, ...]
    seconds: dict[str, float]


@dataclass
class Tally:
    """Adds up the results of chunks, which may come in any order.

    Attributes:
        rows: one a case.
        groups: by signature.
        behaviour: of all cases.
    """

    rows: list[Row] = field(default_factory=list)
    groups: dict[Signature, Group] = field(default_factory=dict)
    behaviour: Behaviour = field(default_factory=Behaviour)

    def add(self, result: ChunkResult) -> list[Problem]:
        """Takes a chunk in; the problems of signatures that were not known before."""
        self.behaviour.merge(result.behaviour)
        new: list[Problem] = []
        for record in result.records:
            signatures = dict.fromkeys(str(p.signature) for p in record.problems)
            self.rows.append(
                Row(
                    record.order,
                    record.label,
                    record.stream,
                    record.status,
                    tuple(signatures),
                    dict(record.seconds),
                )
            )
            seen: set[Signature] = set()
            for problem, oracle in zip(record.problems, record.oracles, strict=True):
                if problem.signature not in seen:
                    seen.add(problem.signature)
                    new += self._group(record, problem, oracle)
        return new

    def _group(self, record: CaseRecord, problem: Problem, oracle: str) -> list[Problem]:
        mine = (record.order, record.label)
        known = self.groups.get(problem.signature)
        if known is None:
            self.groups[problem.signature] = Group(record, problem, oracle, [mine])
            return [problem]
        known.cases.append(mine)
        if record.order < known.record.order:
            known.record, known.problem, known.oracle = record, problem, oracle
        return []

    def sorted_groups(self) -> list[Group]:
        """In the order of their first cases."""
        return sorted(self.groups.values(), key=lambda g: (g.record.order, g.problem.signature))

    def count(self, stream: str) -> int:
        return sum(row.stream == stream for row in self.rows)

    def statuses(self) -> dict[str, int]:
        """How many cases ended in which way, by name."""
        return dict(sorted(Counter(row.status for row in self.rows).items()))

    def stage_seconds(self) -> dict[str, float]:
        """Time in each stage, of all cases together."""
        total: Counter[str] = Counter()
        for row in self.rows:
            total.update(row.seconds)
        return dict(sorted(total.items()))
