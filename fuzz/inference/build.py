"""The whole file of rules: traces, partial operators, inference in several processes."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from graphopt.fuzz.inference.infer import Uninferable, infer
from graphopt.fuzz.inference.partial import PartialOperator
from graphopt.fuzz.inference.selection import select
from graphopt.fuzz.rules.file import RuleFile, rule_to_json
from graphopt.fuzz.traces.record import Record

DEFECT = "inference failed:"
"""What the reason starts with where an operator has no rule through a defect of the inference."""
CHUNK = 8
"""Partial operators that a process is handed at once."""

Progress = Callable[[str], None]
Task = tuple[PartialOperator, int]
"""A partial operator and the seed."""
Outcome = tuple[str, Any, float]
"""The overload, the rule as JSON or the reason why there is none, and seconds."""


def _task(task: Task) -> Outcome:
    partial, seed = task
    started = time.process_time()
    try:
        result: Any = rule_to_json(infer(partial, seed))
    except Uninferable as error:
        result = str(error)
    except Exception as error:  # noqa: BLE001 - one operator must not cost the others; a test looks for these
        result = f"{DEFECT} {error!r}"
    return partial.overload, result, time.process_time() - started


def _results(tasks: list[Task], jobs: int) -> Iterator[Outcome]:
    """The outcome of each task, in order; a task that kills its process has that as its reason."""
    if jobs == 1:
        yield from map(_task, tasks)
        return
    left = list(tasks)
    while left:
        done = 0
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare) as pool:
            try:
                for outcome in pool.map(_task, left, chunksize=CHUNK):
                    yield outcome
                    done += 1
                return
            except BrokenProcessPool:
                left = left[done:]
        for task in left[: jobs * CHUNK]:
            yield _alone(task)
        left = left[jobs * CHUNK :]


def _alone(task: Task) -> Outcome:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        try:
            return pool.submit(_task, task).result()
        except BrokenProcessPool:
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
    for done, (overload, result, _seconds) in enumerate(_results([(p, seed) for p in partials], jobs), 1):
        if isinstance(result, str):
            reasons.setdefault(overload, result)
            if result.startswith(DEFECT):
                progress(f"{overload}: {result}")
        else:
            rules.setdefault(overload, []).append(result)
        if done % 100 == 0:
            progress(f"{done} of {len(partials)}")
    missing |= {overload: reason for overload, reason in reasons.items() if overload not in rules}
    versions = {name: importlib.metadata.version(name) for name in ("torch", "z3-solver", "sympy")}
    versions["torch"] = versions["torch"].split("+")[0]
    return RuleFile(versions, seed, missing, rules)
