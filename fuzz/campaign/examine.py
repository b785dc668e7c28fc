"""Cases, looked at by every oracle: what a worker does with them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        note: told about stages.
        subject: the case, once it is made and built.
        case: the case, once it is made.
        seconds: by stage, so far.
        problems: found so far.
        oracles: who found each of them; empty for what no oracle found.
        behaviour: what it exercised.
    """

    stream: Stream
    index: int
    label: str
    note: Note
    subject: Subject | None = None
    case: FuzzCase | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    oracles: list[str] = field(default_factory=list)
    behaviour: Behaviour = field(default_factory=Behaviour)

    def prepare(self, make: Callable[[], FuzzCase]) -> None:
        """Makes the case and builds its program.

        Args:
            make: makes the case.
        """

        def made() -> None:
            self.case = make()

        if not self._stage("generate", "generator", made):
            return
        assert self.case is not None
        _seed_everything(self.case.seed)
        subject = Subject(self.case)
        if self._stage("build", "generator", lambda: subject.program):
            self.subject = subject

    def look(self, oracles: Sequence[Oracle]) -> None:
        """Has every oracle that says something about the case look at it."""
        subject = self.subject
        if subject is None:
            return
        _seed_everything(subject.case.seed)
        for oracle in oracles:

            def check(oracle: Oracle = oracle) -> None:
                if oracle.applies(subject):
                    self.counted(oracle.name, list(oracle.check(subject)))

            # Oracles turn what the code under test raises into problems; what they raise is their own defect.
            self._stage(oracle.name, "fuzzer", check, blamed=under_test(oracle, subject.case))

    def counted(self, oracle: str, problems: Sequence[Problem]) -> None:
        """Takes down what an oracle found; nothing, if it looked and found nothing."""
        self.behaviour.add("oracles", oracle, "violated" if problems else "held")
        self.problems.extend(problems)
        self.oracles.extend(oracle for _ in problems)

    def record(self) -> CaseRecord:
        """What is kept of it: the case itself only where something is wrong with it."""
        if self.subject is not None:
            result = self.subject.outcome.result  # None where a pass fails, which is for the oracles to tell
            records = result.records if result is not None else ()
            self.behaviour.merge(of_case(self.subject.case, self.subject.program, records))
        found = tuple(self.problems)
        status: Status = "found" if found else "ok"
        kept = self.case if found else None
        return CaseRecord(
            self.stream, self.index, self.label, status, self.seconds, found, tuple(self.oracles), kept
        )

    def _stage(self, name: str, component: str, work: Callable[[], object], blamed: str = "") -> bool:
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
            self.problems.append(Problem(signature, text, {"stage": name}))
            self.oracles.append("")
            return False
        finally:
            self.seconds[name] = time.perf_counter() - start


def together(examinations: Sequence[Examination], oracles: Sequence[Oracle], note: Note) -> list[Oracle]:
    """Has the oracles that look at several cases at a time do so; those that did not.

    Code generators take programs in one artifact much faster than one by one.

    Args:
        examinations: of cases that are prepared.
        note: told about each oracle; a crash then is nobody's in particular.
    """
    built = [e for e in examinations if e.subject is not None]
    subjects = [e.subject for e in built if e.subject is not None]
    left: list[Oracle] = []
    for oracle in oracles:
        check_all: Any = getattr(oracle, "check_all", None)
        if check_all is None or len(built) < 2:
            left.append(oracle)
            continue
        note(oracle.name, "codegen")
        applicable = [i for i, s in enumerate(subjects) if oracle.applies(s)]
        start = time.perf_counter()
        try:
            found = list(check_all([subjects[i] for i in applicable]))
        except Exception:  # a defect of the oracle, which comes again where it looks at each case alone
            left.append(oracle)
            continue
        seconds = (time.perf_counter() - start) / max(1, len(applicable))
        for place, i in enumerate(applicable):
            built[i].seconds[oracle.name] = seconds
            built[i].counted(oracle.name, [problem for p, problem in found if p == place])
    return left


def under_test(oracle: Oracle, case: FuzzCase) -> str:
    """Whose code runs while an oracle looks at a case."""
    if oracle.cost == "compile":
        return "codegen"
    if oracle.cost == "export":
        return "export"
    return "+".join(spec.partition("{")[0] for spec in case.passes)


def _seed_everything(seed: int) -> None:
    """Operators that draw, and libraries that do, draw the same whatever ran before."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
