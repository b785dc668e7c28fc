"""A generator and oracles whose findings are known: for tests of campaigns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref
from graphopt.fuzz.oracles import Oracle, Subject

OPERATORS = ("relu", "tanh", "neg", "exp", "sigmoid")
SLOW_SECONDS = 30.0


def generate(root_seed: int, index: int, passes: Sequence[str]) -> FuzzCase:
    """A chain of two operators that the seed and the index decide; case 13 cannot be generated."""
    if index == 13:
        raise RuntimeError(f"unlucky {index}")
    draw = torch.Generator().manual_seed(1000 * root_seed + index)
    first, second = (OPERATORS[int(n)] for n in torch.randint(len(OPERATORS), (2,), generator=draw))
    calls = (
        Call("a", f"aten.{first}.default", (Ref("x"),)),
        Call("b", f"aten.{second}.default", (Ref("a"),)),
    )
    graph = Graph((Leaf("x", (2 + index % 3, 3)),), calls, ("b",))
    return FuzzCase(graph, tuple(passes) or ("cleanup",), index, "recorded", f"{root_seed}/{index}")


class NoNegOfTanh:
    """Dislikes a negated hyperbolic tangent."""

    name = "no-neg-of-tanh"
    cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return "aten.neg.default" in subject.case.graph.operators

    def check(self, subject: Subject) -> Iterator[Problem]:
        if subject.case.graph.operators == ("aten.tanh.default", "aten.neg.default"):
            facts = {"size": int(subject.program.signature.inputs[0].shape[0])}
            yield Problem(Signature("cleanup", self.name, "value", "aten.neg.default"), "disliked", facts)


class Raises:
    """An oracle that is broken for exp after exp."""

    name = "raises"
    cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.case.graph.operators == ("aten.exp.default", "aten.exp.default")

    def check(self, subject: Subject) -> Iterator[Problem]:
        raise ZeroDivisionError("planted")


class Deadly:
    """Crashes at case 5, hangs at case 9, leaves at case 20, takes all memory at case 22."""

    name = "deadly"
    cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        index = int(subject.case.label.partition("/")[2] or 0)
        if index == 5:
            os.kill(os.getpid(), signal.SIGSEGV)
        if index == 9:
            time.sleep(SLOW_SECONDS)
        if index == 20:
            os._exit(3)
        if index == 22:
            torch.empty(1 << 36, dtype=torch.uint8).fill_(1)
        yield from ()


class Positive:
    """A backend that dislikes three rows."""

    name = "planted-backend"
    cost = "compile"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        if subject.case.graph.leaves[0].shape[0] == 3:
            yield Problem(Signature("codegen", self.name, "value"), "three rows")


class Together(Positive):
    """The same for several cases at a time; it crashes where case 8 is one of them."""

    name = "planted-together"

    def check_all(self, subjects: Sequence[Subject]) -> Iterator[tuple[int, Problem]]:
        if any(subject.case.label.endswith("/8") for subject in subjects):
            os._exit(9)
        for i, subject in enumerate(subjects):
            yield from ((i, problem) for problem in self.check(subject))


def mild_oracles() -> list[Oracle]:
    """Those that return."""
    return [NoNegOfTanh(), Raises()]


def all_oracles() -> list[Oracle]:
    return [*mild_oracles(), Deadly()]


def no_oracles() -> list[Oracle]:
    return []


def backend_oracles(names: Sequence[str]) -> list[Oracle]:
    return [oracle for oracle in (Positive(), Together()) if oracle.name.removeprefix("planted-") in names]
