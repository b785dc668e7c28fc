"""The result of a campaign."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from graphopt.errors import FindingError
from graphopt.fuzz.campaign.plan import STREAMS
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.campaign.tally import Row, Tally
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage import SECTIONS, Behaviour
from graphopt.fuzz.coverage.universe import Universe
from graphopt.fuzz.findings import Problem, Signature

SCHEMA = "graphopt.fuzz/1"
_LABELS_SHOWN = 20


@dataclass(frozen=True)
class ReportedFinding:
    """All cases of one signature.

    Attributes:
        problem: as the first case shows it.
        status: ``new``; ``known``: :attr:`issue` describes it.
        labels: of the cases, in the campaign's order.
        oracle: that saw it; empty where none did.
        case: the first one; None where it could not be generated, and for findings about coverage.
        issue: name of the known issue.
        reduced: the case made small, and how often the oracle was asked for it; None where that was not
            done or did not work.
        folder: where the stand-alone reproducer is, relative to the folder of the campaign.
    """

    problem: Problem
    status: Literal["new", "known"]
    labels: tuple[str, ...]
    oracle: str = ""
    case: FuzzCase | None = None
    issue: str | None = None
    reduced: FuzzCase | None = None
    oracle_calls: int | None = None
    folder: str | None = None

    @property
    def signature(self) -> Signature:
        return self.problem.signature

    @property
    def small(self) -> FuzzCase | None:
        """The smallest case there is."""
        return self.reduced or self.case

    def to_dict(self) -> dict[str, Any]:
        return {
            "signature": vars(self.signature).copy(),
            "status": self.status,
            "issue": self.issue,
            "message": self.problem.message,
            "facts": _finite(dict(self.problem.facts)),
            "oracle": self.oracle,
            "count": len(self.labels),
            "cases": list(self.labels[:_LABELS_SHOWN]),
            "case": self.case.to_dict() if self.case else None,
            "reduced": self.reduced.to_dict() if self.reduced else None,
            "oracle_calls": self.oracle_calls,
            "folder": self.folder,
        }


@dataclass(frozen=True)
class CampaignReport:
    """What a campaign did and found.

    Equal settings give equal reports, but for :attr:`seconds` and the times in :attr:`rows`.

    Attributes:
        settings: of the campaign.
        versions: of graphopt and of what it tests, by package.
        rows: one a case, in order.
        findings: in the order of their first cases.
        fixed: known issues whose own case passes now.
        behaviour: what was exercised.
        universe: what could have been.
        seconds: from begin to end.
        stage_seconds: of all workers together, by stage.
        interrupted: it did not come to its end; what was done is here.
    """

    settings: Settings
    versions: dict[str, str]
    rows: tuple[Row, ...]
    findings: tuple[ReportedFinding, ...]
    fixed: tuple[str, ...]
    behaviour: Behaviour
    universe: Universe
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def new(self) -> tuple[ReportedFinding, ...]:
        """The findings that are no known issue."""
        return tuple(f for f in self.findings if f.status == "new")

    def counts(self) -> dict[str, int]:
        """How many cases ran, by stream."""
        found = Counter(row.stream for row in self.rows)
        return {stream: found[stream] for stream in STREAMS}

    def statuses(self) -> dict[str, int]:
        """How many cases ended in which way."""
        return dict(sorted(Counter(row.status for row in self.rows).items()))

    def components(self) -> dict[str, dict[str, int]]:
        """Signatures and cases by the component at fault."""
        found: dict[str, dict[str, int]] = {}
        for finding in self.findings:
            counts = found.setdefault(finding.signature.component, {"new": 0, "known": 0, "cases": 0})
            counts[finding.status] += 1
            counts["cases"] += len(finding.labels)
        return dict(sorted(found.items()))

    def coverage(self) -> dict[str, Any]:
        """The numbers of :attr:`behaviour`, and what stayed idle."""
        return {
            "distinct": {section: self.behaviour.distinct(section) for section in SECTIONS},
            "passes": len(self.universe.passes),
            "rules": len(self.universe.rules),
            "idle_passes": self.universe.idle_passes(self.behaviour),
            "idle_rules": self.universe.idle_rules(self.behaviour),
        }

    def coverage_dict(self) -> dict[str, Any]:
        """Everything about coverage: its numbers, and every count."""
        return {
            "schema": "graphopt.fuzz.coverage/1",
            **self.coverage(),
            "keys": {section: list(parts) for section, parts in SECTIONS.items()},
            "counts": self.behaviour.to_dict(),
        }

    def page_facts(self) -> dict[str, str]:
        """What the page about coverage says of the campaign."""
        facts = {"seed": str(self.settings.seed), "profile": self.settings.profile}
        facts |= {f"cases: {stream}": str(n) for stream, n in self.counts().items()}
        facts |= {
            "findings": str(len(self.new)),
            "known issues seen": str(len(self.findings) - len(self.new)),
        }
        return facts | {name: version for name, version in self.versions.items()}

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "settings": self.settings.to_dict(),
            "versions": self.versions,
            "interrupted": self.interrupted,
            "cases": self.counts(),
            "statuses": self.statuses(),
            "components": self.components(),
            "findings": [f.to_dict() for f in self.findings],
            "fixed": list(self.fixed),
            "coverage": self.coverage(),
            "seconds": round(self.seconds, 3),
            "stage_seconds": {stage: round(s, 3) for stage, s in self.stage_seconds.items()},
        }

    def coverage_line(self) -> str:
        """The coverage in a line."""
        numbers = self.coverage()
        distinct = numbers["distinct"]
        passes = numbers["passes"] - len(numbers["idle_passes"])
        rules = numbers["rules"] - len(numbers["idle_rules"])
        return (
            f"coverage: {len(self.behaviour.values('operators', 'operator'))} operators in "
            f"{distinct['operators']} combinations with dtype and rank, "
            f"{distinct['attributes']} attribute bins, {distinct['edges']} edges, "
            f"{passes} of {numbers['passes']} passes and {rules} of {numbers['rules']} rules fired"
        )

    def summary(self) -> str:
        """A sentence."""
        counts = self.counts()
        known = len(self.findings) - len(self.new)
        done = f"{counts['passes']} cases through the passes, {counts['backends']} through backends"
        replayed = f"{counts['corpus']} of the corpus, {counts['known']} of known issues"
        found = f"{len(self.new)} findings" if self.new else "nothing found"
        return f"{done}, {replayed}: {found}" + (f", {known} known" if known else "")

    def raise_if_found(self) -> CampaignReport:
        """The report itself, where nothing new was found.

        Raises:
            FindingError: GO-7000, something was.
        """
        if not self.new:
            return self
        lines = [f"  {f.signature} ({len(f.labels)} cases, first {f.labels[0]})" for f in self.new[:10]]
        more = [f"  and {len(self.new) - 10} more"] if len(self.new) > 10 else []
        count = f"{len(self.new)} problem{'s' if len(self.new) > 1 else ''}"
        raise FindingError("\n".join([f"the fuzzer found {count}:", *lines, *more]), hint=self._hint())

    def _hint(self) -> str:
        folder = next((f.folder for f in self.new if f.folder), None)
        if folder:
            return f"stand-alone reproducers are in the campaign's folder, the first in {folder}"
        index = next((f.labels[0].partition("/")[2] for f in self.new if "/" in f.labels[0]), "")
        again = f"graphopt fuzz --seed {self.settings.seed} --only {index} --out FOLDER" if index else "--out"
        return f"'{again}' leaves reproducers" if index else "--out FOLDER leaves reproducers"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def idle_problems(universe: Universe, behaviour: Behaviour) -> list[Problem]:
    """A problem for each pass and rule that never fired."""
    found = []
    for what, names in (
        ("pass", universe.idle_passes(behaviour)),
        ("rule", universe.idle_rules(behaviour)),
    ):
        for name in names:
            message = f"{what} {name!r} never fired in the whole campaign"
            found.append(Problem(Signature(name, "firings", "coverage", what), message))
    return found


def report_of(
    settings: Settings,
    tally: Tally,
    findings: Sequence[ReportedFinding],
    universe: Universe,
    *,
    fixed: Sequence[str],
    seconds: float,
    interrupted: bool,
) -> CampaignReport:
    """Puts a report together."""
    return CampaignReport(
        settings,
        versions(),
        tuple(sorted(tally.rows, key=lambda row: row.order)),
        tuple(findings),
        tuple(fixed),
        tally.behaviour,
        universe,
        seconds,
        tally.stage_seconds(),
        interrupted,
    )


def versions() -> dict[str, str]:
    """Versions of graphopt and of what it is tested against."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("graphopt", "torch", "onnx", "onnxruntime", "apache-tvm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
