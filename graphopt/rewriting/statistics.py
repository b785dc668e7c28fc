"""What each rule did: how often it was tried, matched and refused, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RuleStatistics:
    """Counts of one rule.

    Attributes:
        tried: nodes at which the pattern was tried (its last operator stood there).
        matched: places where the pattern fitted and ``check`` agreed.
        rejected: reasons, of the pattern or of ``check``, and how often each occurred.
        seconds: time in matching and rewriting.
    """

    rule: str
    tried: int = 0
    matched: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, other: RuleStatistics) -> None:
        self.tried += other.tried
        self.matched += other.matched
        self.rejected.update(other.rejected)
        self.seconds += other.seconds

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "tried": self.tried,
            "matched": self.matched,
            "rejected": dict(self.rejected.most_common()),
            "seconds": round(self.seconds, 6),
        }
