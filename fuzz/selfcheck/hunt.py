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


def hunt(variant: Variant, source: Source, limit: int) -> Catch:
    """Runs cases of a source with a mistake planted until an oracle finds something.

    Cases that cannot reach the component count and are not run.  Those with which the unchanged code has a
    problem too prove nothing.
    """
    oracles = oracles_of(variant.stage)
    tried, start = 0, 0
    while start < limit:
        # Cases are drawn before the mistake is planted: the generator stands on the same code.
        found: tuple[int, FuzzCase, Problem] | None = None
        cases = [(i, source(i)) for i in range(start, min(start + _CHUNK, limit))]
        start += len(cases)
        with variant.planted():
            for index, case in cases:
                if case is None or not concerns(variant, case.graph):
                    continue
                tried += 1
                problem = next(problems(case, oracles), None)
                if problem is not None:
                    found = (index, case, problem)
                    break
        if found is not None:
            index, case, problem = found
            if next(problems(case, oracles), None) is None:
                return Catch(index + 1, tried, problem, case.label)
            start = index + 1
    return Catch(None, tried)


def concerns(variant: Variant, graph: Graph) -> bool:
    """Whether a component can see anything of a graph."""
    return not variant.needs or any(n in o for o in graph.operators for n in variant.needs)


def problems(case: FuzzCase, oracles: tuple[Oracle, ...]) -> Iterator[Problem]:
    """What is wrong with a case, by some oracles."""
    subject = Subject(case)
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

    return _kept(case)


def uniform(root_seed: int) -> Source:
    """Cases of uniform random generation."""
    from graphopt.fuzz.selfcheck.uniform import uniform_case

    return _kept(lambda index: uniform_case(root_seed, index, pipeline(root_seed, index)))


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


def _kept(source: Source) -> Source:
    """The same, and drawn once: all mistakes are looked for in the same cases."""
    known: dict[int, FuzzCase | None] = {}

    def case(index: int) -> FuzzCase | None:
        if index not in known:
            known[index] = source(index)
        return known[index]

    return case
