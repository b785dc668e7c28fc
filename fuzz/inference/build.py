"""The whole file of rules: traces, partial operators, inference in several processes."""

from __future__ import annotations

import importlib.metadata
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from graphopt.fuzz.inference.infer import FLOORS, Uninferable, infer
from graphopt.fuzz.inference.partial import PartialOperator
from graphopt.fuzz.inference.selection import select
from graphopt.fuzz.rules.file import RuleFile, rule_to_json
from graphopt.fuzz.traces.record import Record

DEFECT = "inference failed:"
"""What the reason starts with where an operator has no rule through a defect of the inference."""
SAFE_FLOORS = (1,)
"""Of attributes, where a call with others killed the process."""
Progress = Callable[[str], None]
Task = tuple[PartialOperator, int]
"""A partial operator and the seed."""
Outcome = tuple[str, Any, float]
"""The overload, the rule as JSON or the reason why there is none, and seconds."""


def _task(task: Task, floors: Sequence[int] = FLOORS) -> Outcome:
    partial, seed = task
    started = time.process_time()
    try:
        result: Any = rule_to_json(infer(partial, seed, floors))
    except Uninferable as error:
        result = str(error)
    except Exception as error:  # noqa: BLE001 - one operator must not cost the others; a test looks for these
        result = f"{DEFECT} {error!r}"
    return partial.overload, result, time.process_time() - started


def _results(tasks: list[Task], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """The number and outcome of each task, as they finish; one that kills its process has that as reason."""
    if jobs == 1:
        yield from enumerate(map(_task, tasks))
        return
    waiting = iter(range(len(tasks)))
    while True:
        suspects: list[int] = []
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare) as pool:
            running = {pool.submit(_task, tasks[i]): i for i in itertools.islice(waiting, jobs)}
            while running and not suspects:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    number = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(number)
                        continue
                    yield number, future.result()
                    if not suspects:
                        running |= {pool.submit(_task, tasks[i]): i for i in itertools.islice(waiting, 1)}
            suspects += running.values()
        if not suspects:
            return
        for number in suspects:
            yield number, _alone(tasks[number])


def _alone(task: Task) -> Outcome:
    """The outcome of a task in a process of its own.

    Some kernels divide by an attribute that is zero, which no exception reports: the second attempt
    leaves such values out.
    """
    for floors in (FLOORS, SAFE_FLOORS):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_prepare) as pool:
            try:
                return pool.submit(_task, task, floors).result()
            except BrokenProcessPool:
                continue
    return task[0].overload, "a call of it kills the process", 0.0


def _prepare() -> None:
    """Of workers: one thread, and no warnings of torch's C++ code, which Python cannot filter."""
    import os

    import torch

    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def build(
    records: Iterable[Record],
    *,
    seed: int = 0,
    jobs: int = 1,
    only: Collection[str] = (),
    progress: Progress = lambda line: None,
) -> RuleFile:
    """Rules for everything that was recorded; the same for the same records and seed, whatever ``jobs`` is.

    Args:
        records: of traces.
        seed: of all sampling.
        jobs: processes.
        only: overloads to restrict the work to; default: all.
        progress: told what is being done, a line at a time.
    """
    partials, missing = select(records, only)
    progress(f"{len(partials)} partial operators of {len({p.overload for p in partials})} overloads")
    rules: dict[str, list[Any]] = {}
    reasons: dict[str, str] = {}
    outcomes: dict[int, Outcome] = {}
    for number, outcome in _results([(p, seed) for p in partials], jobs):
        outcomes[number] = outcome
        if str(outcome[1]).startswith(DEFECT):
            progress(f"{partials[number].key}: {outcome[1]}")
        if len(outcomes) % 100 == 0:
            progress(f"{len(outcomes)} of {len(partials)}")
    for _, (overload, result, _seconds) in sorted(outcomes.items()):
        if isinstance(result, str):
            reasons.setdefault(overload, result)
        else:
            rules.setdefault(overload, []).append(result)
    missing |= {overload: reason for overload, reason in reasons.items() if overload not in rules}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "z3-solver", "sympy")}
    versions["torch"] = versions["torch"].split("+")[0]
    return RuleFile(versions, seed, missing, rules)
