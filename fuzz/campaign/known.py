"""Known issues: problems of other projects, found, made small and worked around."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Signature


@dataclass(frozen=True)
class KnownIssue:
    """One of them.

    Attributes:
        name: of its folder.
        signature: what findings of it look like.
        case: that shows it; None where no graph does.
    """

    name: str
    signature: Signature
    case: FuzzCase | None = None

    def explains(self, signature: Signature) -> bool:
        """Whether a finding of this signature is this issue."""
        return signature == self.signature


def known_issues() -> tuple[KnownIssue, ...]:
    """Those that come with graphopt."""
    return ()
