"""One case, looked at by every oracle: what a worker does with it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from graphopt.errors import GraphoptError
from graphopt.fuzz.campaign.plan import Stream
from graphopt.fuzz.campaign.records import CaseRecord, Status
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage import Behaviour
from graphopt.fuzz.coverage.collect import of_case
from graphopt.fuzz.findings import Problem, Signature, normalised
from graphopt.fuzz.oracles import Oracle, Subject

Note = Callable[[str, str], None]
"""Told each stage as it begins, and whose crash a crash in it would be."""


@dataclass
class Examination:
    """One case while it is examined.

    Attributes:
        stream, index, label: see :class:`CaseRecord`.
        seconds: by stage, so far.
        problems: found so far.
        oracles: who found each of them; empty for what no oracle found.
    """

    stream: Stream
    index: int
    label: str
    note: Note
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    oracles: list[str] = field(default_factory=list)

    def stage(self, name: str, component: str, work: Callable[[], object], blamed: str = "") -> bool:
        """Times a stage, and says whether it came to its end.

        Args:
            component: whose problem an exception is.
            blamed: whose problem a crash is, where that is somebody else.
        """
        self.note(name, blamed or component)
        start = time.perf_counter()
        try:
            work()
            return True
        except Exception as error:  # the code under test may raise anything, and the campaign goes on
            words = error.message if isinstance(error, GraphoptError) else str(error)
            text = f"{type(error).__name__}: {words}"
            signature = Signature(component, name, "exception", normalised(text))
            self.add("", Problem(signature, text, {"stage": name}))
            return False
        finally:
            self.seconds[name] = time.perf_counter() - start

    def add(self, oracle: str, problem: Problem) -> None:
        """Takes a problem down."""
        self.problems.append(problem)
        self.oracles.append(oracle)

    def record(self, case: FuzzCase | None) -> CaseRecord:
        """What is kept of it: the case itself only where something is wrong with it."""
        found = tuple(self.problems)
        status: Status = "found" if found else "ok"
        kept = case if found else None
        return CaseRecord(
            self.stream, self.index, self.label, status, self.seconds, found, tuple(self.oracles), kept
        )


def examine(
    examination: Examination, make: Callable[[], FuzzCase], oracles: Sequence[Oracle]
) -> tuple[CaseRecord, Behaviour]:
    """Makes a case and has every oracle that says something about it look at it.

    Args:
        examination: gets the times and the problems.
        make: makes the case.
        oracles: in the order in which they look.
    """
    made: list[FuzzCase] = []
    behaviour = Behaviour()
    if not examination.stage("generate", "generator", lambda: made.append(make())):
        return examination.record(None), behaviour
    case = made[0]
    _seed_everything(case.seed)
    subject = Subject(case)
    if not examination.stage("build", "generator", lambda: subject.program):
        return examination.record(case), behaviour
    for oracle in oracles:
        before = len(examination.problems)
        applied: list[bool] = []

        def look(oracle: Oracle = oracle, applied: list[bool] = applied) -> None:
            if oracle.applies(subject):
                applied.append(True)
                for problem in oracle.check(subject):
                    examination.add(oracle.name, problem)

        # Oracles turn what the code under test raises into problems; what they raise is their own defect.
        examination.stage(oracle.name, "fuzzer", look, blamed=_under_test(oracle, case))
        if applied:
            found = len(examination.problems) > before
            behaviour.add("oracles", oracle.name, "violated" if found else "held")
    result = subject.outcome.result  # None where a pass fails, which is for the oracles to tell
    behaviour.merge(of_case(case, subject.program, result.records if result is not None else ()))
    return examination.record(case), behaviour


def _under_test(oracle: Oracle, case: FuzzCase) -> str:
    """Whose code runs while an oracle looks at a case."""
    if oracle.cost == "compile":
        return "codegen"
    return "+".join(spec.partition("{")[0] for spec in case.passes)


def _seed_everything(seed: int) -> None:
    """Operators that draw, and libraries that do, draw the same whatever ran before."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
