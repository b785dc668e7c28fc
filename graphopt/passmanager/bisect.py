"""Finds the pass that broke a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.contract import compose_all
from graphopt.errors import GraphoptError, VerificationError
from graphopt.ir.program import Program
from graphopt.ir.verifier import check_program
from graphopt.passmanager.apply import apply_pass
from graphopt.passmanager.base import Pass, PassContext, flatten
from graphopt.passmanager.registry import build_pipeline
from graphopt.verification import verify

Check = Callable[[Program, Program], bool]


@dataclass(frozen=True)
class BisectResult:
    """The answer of :func:`bisect`.

    Attributes:
        culprit: specification of the first pass whose result is wrong; None when all are right.
        index: its position among the leaves of the pipeline; -1 when there is none.
        before: the program that the culprit was given.
        error: why its result is wrong, where a failure said so.
        checks: how many programs were checked.
    """

    culprit: str | None
    index: int
    before: Program | None
    error: GraphoptError | None
    checks: int


def bisect(
    program: Program,
    passes: str | Sequence[Pass | str],
    check: Check | None = None,
    *,
    calibration: Sequence[Sequence[Any]] = (),
    draws: int = 2,
    seed: int = 0,
) -> BisectResult:
    """The first pass, parts of composites counted one by one, after which ``check`` fails.

    All passes run once; then the prefix lengths are searched by halving, so that a pipeline of
    ``n`` passes takes about ``log2(n)`` checks.  A pass that raises is the culprit at once, unless
    the program was wrong before it.

    Args:
        program: the input of the pipeline.
        passes: the pipeline.
        check: ``check(original, candidate)``; default: the invariants and the contracts of the
            passes so far.
        calibration: batches of flat input tensors, for the passes and for the default check.
        draws, seed: of the default check's inputs.
    """
    leaves = flatten(build_pipeline(passes))
    programs = [program]
    contracts = []
    failure: GraphoptError | None = None
    for item in leaves:
        context = PassContext(calibration=calibration)
        try:
            programs.append(apply_pass(item, programs[-1], context))
        except GraphoptError as error:
            failure = error
            break
        contracts.append(context.contract or item.equivalence)
    errors: dict[int, GraphoptError] = {}
    checks = 0

    def good(length: int) -> bool:
        nonlocal checks
        checks += 1
        if check is not None:
            return check(program, programs[length])
        try:
            check_program(programs[length])
            verify(
                program,
                programs[length],
                contract=compose_all(contracts[:length]),
                inputs=calibration or None,
                draws=draws,
                seed=seed,
            ).raise_if_failed()
        except GraphoptError as error:
            errors[length] = error
            return False
        return True

    low, high = 0, len(programs) - 1  # good(low) is taken for granted
    if high == 0 or good(high):
        if failure is None:
            return BisectResult(None, -1, None, None, checks)
        return BisectResult(str(leaves[high]), high, programs[high], failure, checks)
    while high - low > 1:
        middle = (low + high) // 2
        if good(middle):
            low = middle
        else:
            high = middle
    reason = errors.get(high) or VerificationError("the check failed")
    return BisectResult(str(leaves[low]), low, programs[low], reason, checks)
