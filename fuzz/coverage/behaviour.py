"""What a campaign exercised: counts of behaviours, which add up whoever counted them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SECTIONS: dict[str, tuple[str, ...]] = {
    "operators": ("operator", "dtype", "rank"),
    "attributes": ("operator", "argument", "value"),
    "edges": ("producer", "consumer"),
    "passes": ("pass", "outcome"),
    "pass_pairs": ("first", "then", "outcome"),
    "rules": ("rule", "outcome", "reason"),
    "expectations": ("rule", "expected"),
    "origins": ("origin",),
    "oracles": ("oracle", "outcome"),
}
"""Name of each section, and what the parts of its keys are."""


@dataclass
class Behaviour:
    """Counts, by section and by what happened.

    Attributes:
        counts: section -> key -> how many cases; keys are as long as :data:`SECTIONS` says.
    """

    counts: dict[str, Counter[tuple[str, ...]]] = field(
        default_factory=lambda: {section: Counter() for section in SECTIONS}
    )

    def add(self, section: str, *key: object, times: int = 1) -> None:
        """Counts something.

        Raises:
            ValueError: the section's keys have another length.
        """
        if len(key) != len(SECTIONS[section]):
            raise ValueError(f"{section} has keys {SECTIONS[section]}, not {key}")
        self.counts[section][tuple(map(str, key))] += times

    def merge(self, other: Behaviour) -> None:
        """Adds the counts of another; the order of several does not matter."""
        for section, counts in other.counts.items():
            self.counts[section].update(counts)

    def distinct(self, section: str) -> int:
        """How many different things of a section happened."""
        return len(self.counts[section])

    def values(self, section: str, part: str) -> list[str]:
        """The different values of one part of a section's keys, sorted."""
        place = SECTIONS[section].index(part)
        return sorted({key[place] for key in self.counts[section]})

    def total(self, section: str, *beginning: str) -> int:
        """The counts of all keys that begin so, together."""
        size = len(beginning)
        return sum(n for key, n in self.counts[section].items() if key[:size] == beginning)

    def to_dict(self) -> dict[str, list[list[Any]]]:
        """JSON-able and sorted; :meth:`from_dict` reads it back."""
        return {
            section: [[*key, count] for key, count in sorted(self.counts[section].items())]
            for section in SECTIONS
        }

    @staticmethod
    def from_dict(data: Mapping[str, Iterable[Iterable[Any]]]) -> Behaviour:
        """What :meth:`to_dict` wrote.

        Raises:
            ValueError: a section or the length of a key is unknown.
        """
        found = Behaviour()
        for section, rows in data.items():
            if section not in SECTIONS:
                raise ValueError(f"there is no section {section!r}")
            for row in rows:
                *key, count = row
                found.add(section, *key, times=int(count))
        return found
