"""``graphopt reduce``: a finding of the fuzzer made smaller, or checked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import InputError

if TYPE_CHECKING:
    from graphopt.fuzz.cases import FuzzCase
    from graphopt.fuzz.findings import Finding, Problem
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


def problems(case: FuzzCase, oracle: str | None, *, isolate: bool = False) -> Iterator[tuple[str, Problem]]:
    """What is wrong with a case, and the name of the oracle that says so.

    Args:
        oracle: the only one to ask; None asks all, those that compile last.
        isolate: look in another process, which the case may kill.

    Raises:
        UsageError: there is no such oracle.
    """
    from graphopt.fuzz.oracles import Subject
    from graphopt.fuzz.reduction.isolated import Isolated
    from graphopt.fuzz.reduction.oracles import BACKENDS, known_oracles, oracle_named

    subject = Subject(case)
    if isolate:
        for problem in Isolated(BACKENDS).check(subject):
            if oracle in (None, problem.signature.oracle):
                yield problem.signature.oracle, problem
        return
    for each in known_oracles().values() if oracle is None else [oracle_named(oracle)]:
        if each.applies(subject):
            yield from ((each.name, problem) for problem in each.check(subject))


def still_there(stored: Stored, oracle: str | None, *, isolate: bool = False) -> list[str]:
    """Signatures of what is wrong with a stored case now, each once.

    Raises:
        UsageError: there is no such oracle.
    """
    from graphopt.fuzz.reduction.isolated import needs_isolation

    apart = isolate or stored.finding is not None and needs_isolation(stored.finding.signature)
    found = problems(stored.case, oracle or stored.oracle, isolate=apart)
    return list(dict.fromkeys(str(problem.signature) for _, problem in found))


def reduce(
    stored: Stored, *, oracle: str | None = None, budget: int, isolate: bool = False
) -> tuple[Reduced, str]:
    """Reduces a finding from the case as it was found.

    Args:
        oracle: whose problem to reduce; None: the finding's, or the first that is found.
        budget: calls of the oracle.
        isolate: look for the problem in another process, which the case may kill.

    Returns:
        What is left, and the name of the oracle that sees it.

    Raises:
        InputError: no oracle sees a problem.
        UsageError: there is no such oracle.
    """
    from graphopt.fuzz.findings import Finding
    from graphopt.fuzz.reduction import reduce
    from graphopt.fuzz.reduction.oracles import oracle_for

    if stored.finding is not None and stored.oracle is not None and oracle in (None, stored.oracle):
        finding, name = replace(stored.finding, case=stored.original), stored.oracle
    else:
        found = next(problems(stored.original, oracle, isolate=isolate), None)
        if found is None:
            raise InputError("no oracle sees a problem in this case")
        name, finding = found[0], Finding(stored.original, found[1])
    return reduce(finding, oracle_for(finding.signature, name), budget), name
