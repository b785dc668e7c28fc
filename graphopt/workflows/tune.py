"""``graphopt tune``: faster schedules for a model's kernels, found by measuring on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from graphopt.errors import TargetError, UsageError
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.passmanager.manager import PassManager
from graphopt.verification import verify
from graphopt.workflows.loading import load
from graphopt.workflows.optimize import DEFAULT_PASSES

if TYPE_CHECKING:
    from graphopt.codegen import Artifact
    from graphopt.codegen.targets import Target
    from graphopt.codegen.tuning.report import ModelLatency, TuneReport
    from graphopt.codegen.tuning.session import Session, Watcher

DEFAULT_TRIALS = 256

_ROUNDS, _TURN_SECONDS = 9, 0.25
_CONFIRMATIONS = 3
_IN_MODEL = 0.99
"""What takes more than this part of the default's time inside the model is not faster there."""


def tune(
    source: str | os.PathLike[str] | Program,
    target: str = "cpu",
    *,
    trials: int | None = None,
    minutes: float | None = None,
    database: str | os.PathLike[str] | None = None,
    kernels: str = "*",
    fresh: bool = False,
    passes: str | Sequence[Pass | str] = DEFAULT_PASSES,
    dims: dict[str, Any] | None = None,
    measure_model: bool = True,
    watcher: Watcher | None = None,
    seed: int = 0,
) -> TuneReport:
    """Searches the choices that schedules have, and records what is faster for later compilations.

    A schedule is used only if its result is the default schedule's, bit for bit, and it is faster in two
    measurements alone and one inside the model.  What the database knows already is not measured again.

    Args:
        source: a model file or a program.
        target: must be one whose code runs on this machine.
        trials: schedules to try on this model's kernels, those of earlier runs included.
        minutes: to go on for.  Without either: 256 trials.
        database: folder of the records; default: ``tuning`` in the user's cache.
        kernels: a pattern of names (``"*matmul*"``); others are left alone.
        fresh: forget what is known of these kernels first.
        passes: as in :func:`graphopt.compile_model`, since kernels depend on them.
        dims: see :func:`graphopt.load`.  Kernels of symbolic sizes are not tuned.
        measure_model: also run the whole model: what is faster only alone is dropped, and the latency before
            and after measured.
        watcher: told about every measurement.
        seed: of the search.

    An interrupt (Ctrl-C) once the model is loaded ends the search, not the call: the report says so.

    Raises:
        TargetError: GO-6002, code for the target cannot run here; GO-6000, its schedules have no choices.
        InputError: GO-3001, the database cannot be read or written; and of :func:`graphopt.load`.
        UsageError: no kernel has such a name, or a budget is not positive.
        VerificationError: GO-5000, the tuned program is wrong.
    """
    from graphopt.codegen import find_target
    from graphopt.codegen.pipeline import FUSE, run_pipeline
    from graphopt.codegen.relax import lower
    from graphopt.codegen.tuning.database import TuningDatabase, no_database
    from graphopt.codegen.tuning.kernel import find_kernels, target_key
    from graphopt.codegen.tuning.measuring import Measuring
    from graphopt.codegen.tuning.report import TuneReport
    from graphopt.codegen.tuning.session import Budget, Session

    start = time.monotonic()
    if (trials is not None and trials < 1) or (minutes is not None and minutes <= 0):
        raise UsageError("a budget is at least one trial, and more than no time")
    chosen = find_target(target)
    chosen.require_runnable()
    if chosen.kind != "cpu":
        raise TargetError(
            f"schedules for {chosen.kind} have nothing to choose yet, so there is nothing to tune"
        )
    records = TuningDatabase.of_user() if database is None else TuningDatabase(database)
    if records is None:
        raise no_database()
    manager = PassManager(passes, verify="off")
    program = source if isinstance(source, Program) else load(source, dims=dims)
    result = manager.run(program)
    found = find_kernels(run_pipeline(lower(result.program, chosen).mod, chosen, FUSE), chosen)
    named = [k for k in found if fnmatchcase(k.name, kernels)]
    if not named:
        raise UsageError(
            f"no kernel is called {kernels!r}", hint=f"there are: {', '.join(k.name for k in found)}"
        )
    if trials is None and minutes is None:
        trials = DEFAULT_TRIALS
    deadline = None if minutes is None else start + 60 * minutes
    session = Session(
        named,
        target_key(chosen),
        records,
        Measuring(chosen),
        Budget(trials, deadline),
        watcher=watcher,
        fresh=fresh,
        seed=seed,
    )
    session.run()
    report = TuneReport(
        chosen.name,
        records.path,
        session.report(),
        session.trials,
        time.monotonic() - start,
        session.interrupted,
        warnings=list(records.problems),
    )
    if any(k.decisions for k in report.kernels) and not session.interrupted:
        try:
            before = _compiled(result.program, chosen, False)
            if measure_model:
                report.only_alone = _confirm(session, result.program, before, records.folder)
                report.kernels = session.report()
            after = _compiled(result.program, chosen, records.folder)
            verify(program, after, contract=result.contract, draws=1, seed=seed).raise_if_failed()
            report.warnings += after.warnings()
            if measure_model and after.tuned():
                report.latency = latency(before, after)
        except KeyboardInterrupt:
            report.interrupted = True
    report.seconds = time.monotonic() - start
    return report


def _confirm(session: Session, program: Program, before: Artifact, database: Path) -> int:
    """Times tuned kernels inside the model, and takes those back that are not faster there; how many."""
    import numpy as np

    from graphopt.codegen.tuning.context import kernel_times
    from graphopt.codegen.tuning.database import SLOWER
    from graphopt.workflows.bench import drawn_arrays

    dropped = 0
    with tempfile.TemporaryDirectory(prefix="graphopt-tune-") as folder:
        data = Path(folder) / "inputs.npz"
        np.savez(data, **drawn_arrays(before, {}))  # type: ignore[arg-type]
        for _ in range(_CONFIRMATIONS):
            after = _compiled(program, before.target, database)
            default, tuned = kernel_times(before.path, after.path, data, before.target.cores)
            lost = [
                (task, best)
                for task in session.tasks
                if (best := task.best) is not None
                and task.kernel.name in after.tuned()
                and tuned[task.kernel.name] > _IN_MODEL * default[task.kernel.name]
            ]
            for task, best in lost:
                times = (tuned[task.kernel.name], default[task.kernel.name])
                task.record(SLOWER, dict(best.decisions), *times, "faster alone, but not in the model")
            dropped += len(lost)
            if not lost:
                break
    return dropped


def latency(before: Artifact, after: Artifact) -> ModelLatency:
    """Runs two artifacts of one program in processes that take turns."""
    import numpy as np

    from graphopt.codegen.tuning.report import ModelLatency
    from graphopt.workflows.bench import drawn_arrays, take_turns

    with tempfile.TemporaryDirectory(prefix="graphopt-tune-") as folder:
        data = Path(folder) / "inputs.npz"
        np.savez(data, **drawn_arrays(before, {}))  # type: ignore[arg-type]
        files = {"graphopt:before": before.path, "graphopt:after": after.path}
        times = take_turns(files, data, before.target.cores, _ROUNDS, _TURN_SECONDS)
    turns = [[min(turn) for turn in per_round] for per_round in times.values()]
    gain = median(b / a for b, a in zip(*turns, strict=True))
    return ModelLatency(min(turns[0]) * 1e3, min(turns[1]) * 1e3, gain)


def _compiled(program: Program, target: Target, tuned: Path | bool) -> Artifact:
    from graphopt.codegen import compile as generate

    return generate(program, target, cache=False, tuned=tuned)
