"""An oracle that kills its process: for tests of what is seen from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from graphopt.fuzz.findings import Problem
from graphopt.fuzz.oracles import Subject


class Lethal:
    """Dies of a clamped value that is negated anywhere after it."""

    name = "contract"
    cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        if {"aten.hardtanh.default", "aten.neg.default"} <= set(subject.case.graph.operators):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from ()


def oracles() -> list[Lethal]:
    return [Lethal()]
