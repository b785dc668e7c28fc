"""Looks for a planted mistake, case by case, and says how many cases that took."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Problem
from graphopt.fuzz.graphs import Graph
from graphopt.fuzz.oracles import Oracle, Subject, pass_oracles
from graphopt.fuzz.selfcheck.variant import Stage, Variant
from graphopt.passes import BUILTIN

_CHUNK = 50

Source = Callable[[int], FuzzCase | None]
"""The case of an index; None where there is none, which counts as a case."""


@dataclass(frozen=True)
class Catch:
    """How a hunt ended.

    Attributes:
        cases: the number of cases up to the one that showed the mistake; None if none did.
        tried: how many of them could see the component, and were run.
        problem: what was found.
        label: of the case.
    """

    cases: int | None
    tried: int
    problem: Problem | None = None
    label: str = ""


class Hunter:
    """Looks for mistakes in the cases of one source.

    What the right passes make of a case is kept: where a wrong one makes the same, there is nothing to find,
    and only the rule's own expectation is looked at.

    Args:
        source: of the cases; each is drawn once.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cases: dict[int, FuzzCase | None] = {}
        self._right: dict[int, tuple[str | None, frozenset[str]]] = {}

    def hunt(self, variant: Variant, limit: int) -> Catch:
        """Runs cases with a mistake planted until an oracle finds something.

        Cases that cannot reach the component count and are not run.  Those with which the unchanged code has
        a problem too prove nothing.
        """
        oracles = oracles_of(variant.stage)
        tried, start = 0, 0
        while start < limit:
            # Cases are drawn before the mistake is planted: the generator stands on the same code.
            numbers = range(start, min(start + _CHUNK, limit))
            cases = [(i, case) for i in numbers if (case := self._seen_by(variant, i)) is not None]
            start = numbers.stop
            found: tuple[int, FuzzCase, Problem] | None = None
            with variant.planted():
                for index, case in cases:
                    tried += 1
                    problem = self._first_problem(variant, index, case, oracles)
                    if problem is not None:
                        found = (index, case, problem)
                        break
            if found is not None:
                index, case, problem = found
                if next(problems(case, oracles), None) is None:
                    return Catch(index + 1, tried, problem, case.label)
                start = index + 1
        return Catch(None, tried)

    def _seen_by(self, variant: Variant, index: int) -> FuzzCase | None:
        if index not in self._cases:
            self._cases[index] = self._source(index)
        case = self._cases[index]
        if case is None or not concerns(variant, case.graph):
            return None
        if variant.stage == "passes" and index not in self._right:
            subject = Subject(case)
            self._right[index] = (_result(subject), _applied(subject))
        if variant.rules and not self._right[index][1].intersection((*variant.rules, case.rule)):
            return None
        return case

    def _first_problem(
        self, variant: Variant, index: int, case: FuzzCase, oracles: tuple[Oracle, ...]
    ) -> Problem | None:
        subject = Subject(case)
        certain = variant.stage == "passes" and not variant.chance
        if certain and _result(subject) == self._right[index][0]:
            oracles = tuple(o for o in oracles if o.name == "firing")
        return next(_problems(subject, oracles), None)


def _result(subject: Subject) -> str | None:
    """What the passes made of a case: structure, weights and signature; None where they failed."""
    program = subject.outcome.program
    return None if program is None else program.structural_hash()


def _applied(subject: Subject) -> frozenset[str]:
    """The rules that were applied to a case."""
    result = subject.outcome.result
    records = result.records if result is not None else []
    return frozenset(s.rule for r in records for s in r.statistics if s.matched)


def concerns(variant: Variant, graph: Graph) -> bool:
    """Whether a component can see anything of a graph."""
    return not variant.needs or any(n in o for o in graph.operators for n in variant.needs)


def problems(case: FuzzCase, oracles: tuple[Oracle, ...]) -> Iterator[Problem]:
    """What is wrong with a case, by some oracles."""
    return _problems(Subject(case), oracles)


def _problems(subject: Subject, oracles: tuple[Oracle, ...]) -> Iterator[Problem]:
    for oracle in oracles:
        if oracle.applies(subject):
            yield from oracle.check(subject)


def oracles_of(stage: Stage) -> tuple[Oracle, ...]:
    """The oracles that see the components of a stage at work."""
    if stage == "passes":
        return tuple(pass_oracles())
    if stage == "export":
        from graphopt.fuzz.oracles.onnx_file import OnnxFile

        return (OnnxFile(),)
    from graphopt.fuzz.oracles.compiled import Compiled

    return (Compiled(),)


def generated(root_seed: int) -> Source:
    """Cases of the generator."""
    from graphopt.fuzz.generation import Options, generate

    def case(index: int) -> FuzzCase:
        return generate(root_seed, index, Options(dynamic=0.0, passes=pipeline(root_seed, index)))

    return case


def uniform(root_seed: int) -> Source:
    """Cases of uniform random generation."""
    from graphopt.fuzz.selfcheck.uniform import uniform_case

    return lambda index: uniform_case(root_seed, index, pipeline(root_seed, index))


def pipeline(root_seed: int, index: int) -> tuple[str, ...]:
    """Half of the cases go through all of cleanup, a quarter in its form for training, a quarter through
    one to three of its parts."""
    draw = random.Random(f"{root_seed} {index} passes")
    kind = draw.random()
    if kind < 0.5:
        return ("cleanup",)
    if kind < 0.75:
        return ("cleanup{training=true}",)
    parts = sorted(set(BUILTIN) - {"cleanup"})
    return tuple(draw.sample(parts, draw.randint(1, 3)))
