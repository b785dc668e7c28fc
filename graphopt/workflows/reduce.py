"""``graphopt reduce``: a finding of the fuzzer made smaller, or checked again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import InputError

if TYPE_CHECKING:
    from graphopt.fuzz.cases import FuzzCase
    from graphopt.fuzz.findings import Finding, Problem
    from graphopt.fuzz.oracles import Oracle
    from graphopt.fuzz.reduction import Reduced


@dataclass(frozen=True)
class Stored:
    """A finding as it was read.

    Attributes:
        finding: None for a case whose problem is not known yet.
        oracle: name of the oracle that sees it; None for such a case.
        case: the smallest known case.
        original: the case to reduce.
        command: what found it.
    """

    finding: Finding | None
    oracle: str | None
    case: FuzzCase
    original: FuzzCase
    command: str = ""


def read(path: str) -> Stored:
    """The folder of a finding, or the file of a case.

    Raises:
        InputError: it is neither.
    """
    from graphopt.fuzz.reduction import read_case, read_finding

    if not Path(path).is_dir():
        case = read_case(path)
        return Stored(None, None, case, case)
    found = read_finding(path)
    return Stored(found.finding, found.oracle, found.finding.case, found.original, found.command)


def problems(case: FuzzCase, oracle: str | None) -> Iterable[tuple[str, Problem]]:
    """What is wrong with a case, and the name of the oracle that says so.

    Args:
        oracle: the only one to ask; None asks all, those that compile last.

    Raises:
        UsageError: there is no such oracle.
    """
    from graphopt.fuzz.oracles import Subject

    subject = Subject(case)
    for each in oracles(oracle):
        if each.applies(subject):
            yield from ((each.name, problem) for problem in each.check(subject))


def oracles(name: str | None) -> list[Oracle]:
    """The oracle of a name, or all of them.

    Raises:
        UsageError: there is none.
    """
    from graphopt.fuzz.reduction.oracles import known_oracles, oracle_named

    return list(known_oracles().values()) if name is None else [oracle_named(name)]


def reduce(stored: Stored, *, oracle: str | None = None, budget: int) -> tuple[Reduced, str]:
    """Reduces a finding from the case as it was found.

    Returns:
        What is left, and the name of the oracle that sees it.

    Raises:
        InputError: no oracle sees a problem.
    """
    from graphopt.fuzz.findings import Finding
    from graphopt.fuzz.reduction import reduce

    if stored.finding is not None and stored.oracle is not None and oracle in (None, stored.oracle):
        finding, name = replace(stored.finding, case=stored.original), stored.oracle
    else:
        found = next(iter(problems(stored.original, oracle)), None)
        if found is None:
            raise InputError("no oracle sees a problem in this case")
        name, finding = found[0], Finding(stored.original, found[1])
    (judge,) = oracles(name)
    return reduce(finding, judge, budget), name
