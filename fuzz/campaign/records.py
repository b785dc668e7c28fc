"""What became of the cases of a chunk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graphopt.fuzz.campaign.plan import STREAMS, Chunk, Stream
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage.behaviour import Behaviour
from graphopt.fuzz.findings import Problem, Signature

Status = Literal["ok", "found", "crash", "timeout", "gone"]


@dataclass(frozen=True)
class CaseRecord:
    """One case.

    Attributes:
        stream: what was asked of it; see :class:`~graphopt.fuzz.campaign.plan.Chunk`.
        index: its number there.
        label: ``seed/index``, or the name of its file.
        status: ``crash``: the process died; ``timeout``: it was ended; ``gone``: the script of a known issue
            no longer shows it (``ok``: it does).
        seconds: by stage: ``generate``, ``build``, and each oracle by its name.
        problems: what is wrong, in the order in which it was found.
        oracles: who found each problem, or was looking when the process died; empty for what no oracle found.
        case: None when there are no problems, or it could not even be generated.
    """

    stream: Stream
    index: int
    label: str
    status: Status
    seconds: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    oracles: tuple[str, ...] = ()
    case: FuzzCase | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in reports."""
        return (STREAMS.index(self.stream), self.index)

    def to_dict(self) -> dict[str, Any]:
        return {
            "stream": self.stream,
            "index": self.index,
            "label": self.label,
            "status": self.status,
            "seconds": {stage: round(s, 6) for stage, s in self.seconds.items()},
            "problems": [problem_to_dict(p) for p in self.problems],
            "oracles": list(self.oracles),
            "case": self.case.to_dict() if self.case is not None else None,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> CaseRecord:
        case = FuzzCase.from_dict(data["case"]) if data["case"] is not None else None
        problems = tuple(problem_from_dict(p) for p in data["problems"])
        return CaseRecord(
            data["stream"],
            data["index"],
            data["label"],
            data["status"],
            data["seconds"],
            problems,
            tuple(data["oracles"]),
            case,
        )


@dataclass(frozen=True)
class ChunkResult:
    """A chunk that is done: a record of each case, and what they exercised together."""

    chunk: Chunk
    records: tuple[CaseRecord, ...]
    behaviour: Behaviour

    def to_dict(self) -> dict[str, Any]:
        return {
            "chunk": self.chunk.to_dict(),
            "records": [r.to_dict() for r in self.records],
            "behaviour": self.behaviour.to_dict(),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ChunkResult:
        return ChunkResult(
            Chunk.from_dict(data["chunk"]),
            tuple(CaseRecord.from_dict(r) for r in data["records"]),
            Behaviour.from_dict(data["behaviour"]),
        )


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """JSON-able, as far as the facts are; what is not becomes text."""
    return {
        "signature": vars(problem.signature).copy(),
        "message": problem.message,
        "facts": dict(problem.facts),
    }


def problem_from_dict(data: Mapping[str, Any]) -> Problem:
    return Problem(Signature(**data["signature"]), data["message"], data["facts"])
