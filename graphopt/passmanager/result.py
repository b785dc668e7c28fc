"""What a pipeline did: one record a pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.contract import Equivalence
from graphopt.ir.program import Program
from graphopt.rewriting.statistics import RuleStatistics

if TYPE_CHECKING:
    from graphopt.verification.report import VerificationReport


@dataclass
class PassRecord:
    """One pass of a pipeline.

    Attributes:
        spec: the pass with its options.
        contract: what it promised; with its bounds filled in.
        seconds: time in the pass itself, without verification.
        nodes: operators before and after.
        rewrites: applications of rules.
        changed: whether the result differs from the input.
        statistics: what each rule did.
        verification: the measured errors; None when it was not verified on its own.
        parts: the records of a composite's passes.
        notes: what the pass wants the user to know.
    """

    spec: str
    contract: Equivalence
    seconds: float
    nodes: tuple[int, int]
    rewrites: int
    changed: bool
    statistics: list[RuleStatistics] = field(default_factory=list)
    verification: VerificationReport | None = None
    parts: list[PassRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The record as the progress line shows it."""
        before, after = self.nodes
        text = f"{self.spec}: {before} -> {after} operators, {self.rewrites} rewrites, {self.seconds:.2f} s"
        if self.verification is not None:
            text += f", {self.contract}: {self.verification.summary()}"
        return text

    def to_dict(self) -> dict[str, Any]:
        return {
            "pass": self.spec,
            "contract": self.contract.to_dict(),
            "seconds": round(self.seconds, 4),
            "nodes_before": self.nodes[0],
            "nodes_after": self.nodes[1],
            "rewrites": self.rewrites,
            "changed": self.changed,
            "rules": [s.to_dict() for s in self.statistics if s.tried],
            "verification": self.verification.to_dict() if self.verification is not None else None,
            "parts": [p.to_dict() for p in self.parts],
            "notes": self.notes,
        }


@dataclass
class PassResult:
    """The result of a pipeline.

    Attributes:
        program: the rewritten program.
        original: what went in.
        contract: the promise of all passes together.
        records: one a pass, in order.
    """

    program: Program
    original: Program
    contract: Equivalence
    records: list[PassRecord]

    @property
    def rewrites(self) -> int:
        return sum(r.rewrites for r in self.records)

    def to_dict(self) -> dict[str, Any]:
        return {
            "contract": self.contract.to_dict(),
            "nodes_before": len(self.original.operator_nodes()),
            "nodes_after": len(self.program.operator_nodes()),
            "passes": [r.to_dict() for r in self.records],
        }
