"""A campaign as chunks of cases, in a fixed order.

A chunk is what a worker is given at a time, and what is done again when a worker is lost.  Its bounds
depend on the settings alone, so that results do not depend on who runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from graphopt.fuzz.campaign.corpus import NamedCase
from graphopt.fuzz.campaign.settings import Settings

Stream = Literal["corpus", "known", "passes", "backends"]
STREAMS: tuple[Stream, ...] = ("corpus", "known", "passes", "backends")
"""Where cases come from and what is asked of them, in the order of reports."""

PASS_CHUNK, BACKEND_CHUNK = 16, 8


@dataclass(frozen=True)
class Chunk:
    """Some cases of one stream.

    Attributes:
        stream: ``corpus``: given cases, for all oracles; ``known``: scripts that show bugs of others;
            ``passes``: generated cases for the oracles of passes; ``backends``: for those of backends.
        indices: of generated cases; of what is given, the places in its list.
        given: cases of the corpus, in step with ``indices``.
        scripts: ``(name, source)`` of those that show known issues, in step with ``indices``.
    """

    stream: Stream
    indices: tuple[int, ...]
    given: tuple[NamedCase, ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """What tells chunks of one campaign apart."""
        return f"{self.stream}:{self.indices[0]}-{self.indices[-1]}"

    def label(self, place: int, seed: int) -> str:
        """What the case at a place is called: ``seed/index``, or the name that it was given with."""
        if self.scripts:
            return self.scripts[place][0]
        return self.given[place].name if self.given else f"{seed}/{self.indices[place]}"

    def to_dict(self) -> dict[str, Any]:
        given = [case.to_dict() for case in self.given]
        scripts = [list(script) for script in self.scripts]
        return {"stream": self.stream, "indices": list(self.indices), "given": given, "scripts": scripts}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Chunk:
        given = tuple(NamedCase.from_dict(case) for case in data["given"])
        scripts = tuple((name, source) for name, source in data["scripts"])
        return Chunk(data["stream"], tuple(data["indices"]), given, scripts)


def chunks(
    settings: Settings, corpus: Sequence[NamedCase] = (), scripts: Sequence[tuple[str, str]] = ()
) -> Iterator[Chunk]:
    """The campaign; without end where ``settings.cases`` is None and ``only`` is empty.

    Chunks for backends stand behind the chunks for passes of the same cases, so that a campaign that
    counts seconds does some of both.

    Args:
        corpus: cases that have to pass.
        scripts: names and sources of the scripts of known issues.
    """
    if settings.replay:
        for start in range(0, len(corpus), BACKEND_CHUNK):
            part = tuple(corpus[start : start + BACKEND_CHUNK])
            yield Chunk("corpus", tuple(range(start, start + len(part))), part)
    if settings.known_scripts:
        for start in range(0, len(scripts), BACKEND_CHUNK):
            some = tuple(scripts[start : start + BACKEND_CHUNK])
            yield Chunk("known", tuple(range(start, start + len(some))), scripts=some)
    for_backends: list[int] = []
    for indices in _pass_indices(settings):
        yield Chunk("passes", indices)
        if settings.backends:
            every = 1 if settings.only else settings.backend_every
            for_backends += [i for i in indices if i % every == 0]
        while len(for_backends) >= BACKEND_CHUNK:
            yield Chunk("backends", tuple(for_backends[:BACKEND_CHUNK]))
            del for_backends[:BACKEND_CHUNK]
    if for_backends:
        yield Chunk("backends", tuple(for_backends))


def _pass_indices(settings: Settings) -> Iterator[tuple[int, ...]]:
    if settings.only:
        yield tuple(sorted(set(settings.only)))
        return
    start = 0
    while settings.cases is None or start < settings.cases:
        stop = start + PASS_CHUNK if settings.cases is None else min(start + PASS_CHUNK, settings.cases)
        yield tuple(range(start, stop))
        start = stop
