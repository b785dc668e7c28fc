"""``graphopt bench``: latency against other engines, measured so that it can be believed.

Each engine runs in a process of its own, and the processes take turns: a round gives every engine
one batch of runs, in rotating order.  While it is not its turn a process is stopped (SIGSTOP), since
idle worker threads that spin slow down whoever is running.  Figures are medians over all runs, and
the ratio is the median of the rounds' ratios, which a drift of the machine's speed does not touch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import InputError, InternalError, UsageError, did_you_mean
from graphopt.files import existing_file

ENGINES = ("graphopt", "onnxruntime", "openvino", "torch", "torch-compile")

_NEEDS_ONNX = ("onnxruntime", "openvino")


@dataclass
class EngineTime:
    """Latency of one engine.

    Attributes:
        median, best, worst: milliseconds a run.
        ratio: its time over the first engine's, the median over the rounds.
        runs: how many runs were counted.
    """

    engine: str
    median: float
    best: float
    worst: float
    ratio: float
    runs: int


@dataclass
class BenchResult:
    """Latencies of all engines on one input.

    Attributes:
        shapes: of the inputs, by name.
        threads: that each engine was given.
        times: the artifact first.
    """

    model: str
    shapes: dict[str, list[int]]
    threads: int
    times: list[EngineTime]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "graphopt.bench/1",
            "model": self.model,
            "threads": self.threads,
            "inputs": self.shapes,
            "engines": {
                t.engine: {
                    "median_ms": round(t.median, 4),
                    "min_ms": round(t.best, 4),
                    "max_ms": round(t.worst, 4),
                    "ratio": round(t.ratio, 4),
                    "runs": t.runs,
                }
                for t in self.times
            },
        }


def bench(
    artifact: str | os.PathLike[str],
    *,
    against: Sequence[str] = (),
    model: str | os.PathLike[str] | None = None,
    inputs: str | os.PathLike[str] | Mapping[str, np.ndarray] | None = None,
    sizes: Mapping[str, int] | None = None,
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 0.25,
) -> BenchResult:
    """Measures an artifact, and other engines on the model that it was compiled from.

    Args:
        artifact: the ``.so`` file.
        against: ``"onnxruntime"`` and ``"openvino"`` (the model must be an ``.onnx`` file), ``"torch"``
            (eager) and ``"torch-compile"`` (its inductor).  All in float32, like the artifact.
        model: the original; default: the file that the artifact was compiled from.
        inputs: an ``.npz`` file or arrays by name; default: drawn ones.
        sizes: of symbolic dimensions, for drawn inputs.
        threads: for each engine; default: the cores that this process may use.
        rounds: turns that each engine takes.
        seconds: length of a turn; at least one run.

    Raises:
        UsageError: an unknown engine, or one that is not installed.
        InputError: the original is missing or has changed, or the inputs do not fit.
        TargetError: the artifact cannot run on this machine.
    """
    from graphopt.codegen import load_artifact

    for name in against:
        if name not in ENGINES:
            raise UsageError(f"there is no engine {name!r}", hint=did_you_mean(name, ENGINES))
        if name == "openvino" and importlib.util.find_spec("openvino") is None:
            raise UsageError("openvino is not installed", hint="pip install openvino")
    path = existing_file(artifact)
    opened = load_artifact(path)
    opened.target.require_runnable()
    original: Path | None = None
    if against:
        original = existing_file(model) if model is not None else _recorded_source(opened.metadata, path)
        for name in against:
            if name in _NEEDS_ONNX and original.suffix != ".onnx":
                raise InputError(
                    f"{name} cannot run {str(original)!r}", hint="name an .onnx file with --model"
                )
    arrays = _inputs(opened, inputs, sizes or {})
    threads = threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="graphopt-bench-") as folder:
        data = Path(folder) / "inputs.npz"
        np.savez(data, **arrays)  # type: ignore[arg-type]
        files = {"graphopt": path, **{name: original for name in against if original is not None}}
        times = take_turns(files, data, threads, rounds, seconds)
    first = times["graphopt"]
    results = []
    for name, per_round in times.items():
        runs = [t * 1e3 for turn in per_round for t in turn]
        ratios = [
            statistics.median(mine) / statistics.median(base)
            for mine, base in zip(per_round, first, strict=True)
        ]
        results.append(
            EngineTime(
                name, statistics.median(runs), min(runs), max(runs), statistics.median(ratios), len(runs)
            )
        )
    shapes = {name: list(a.shape) for name, a in arrays.items()}
    return BenchResult(str(path), shapes, threads, results)


def _recorded_source(metadata: Mapping[str, Any], artifact: Path) -> Path:
    source = metadata.get("source")
    if not source:
        raise InputError(
            f"{str(artifact)!r} does not say what it was compiled from", hint="name the model with --model"
        )
    path = Path(source["path"])
    if not path.is_file():
        raise InputError(
            f"the model that {str(artifact)!r} was compiled from is gone: {str(path)!r}",
            code="GO-3001",
            hint="name it with --model",
        )
    from graphopt.workflows.compile import identity

    if identity(path)["sha256"] != source["sha256"]:
        raise InputError(
            f"{str(path)!r} has changed since {str(artifact)!r} was compiled",
            hint="compile it again, or name the original with --model",
        )
    return path


def _inputs(artifact: Any, given: Any, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    if given is None:
        return drawn_arrays(artifact, sizes)
    from graphopt.workflows.run import in_order, read_npz

    signature = artifact.signature
    arrays = given if isinstance(given, Mapping) else read_npz(given)
    return {s.name: a for s, a in zip(signature.inputs, in_order(signature, arrays), strict=True)}


def drawn_arrays(artifact: Any, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Inputs for an artifact, by name; ``sizes`` are of its symbolic dimensions.

    Raises:
        UsageError: it has no such dimension.
    """
    signature = artifact.signature
    unknown = [n for n in sizes if n not in signature.dims]
    if unknown:
        raise UsageError(
            f"the artifact has no dimension {unknown[0]!r}", hint=did_you_mean(unknown[0], signature.dims)
        )
    chosen = {n: sizes.get(n, _default_size(r)) for n, r in signature.dims.items()}
    generator = np.random.default_rng(0)
    arrays = {}
    for spec in signature.inputs:
        shape = signature.resolve(spec.shape, chosen)
        if spec.dtype.is_floating_point:
            values = generator.standard_normal(shape)
        else:
            values = generator.integers(0, 2, shape)  # valid as token, mask and flag alike
        arrays[spec.name] = values.astype(str(spec.dtype).removeprefix("torch."))
    return arrays


def _default_size(dim_range: Any) -> int:
    """1 where it is allowed; what needs multiples of 32 is an image, so a common image size."""
    size = dim_range.min if dim_range.multiple_of == 1 else max(dim_range.min, 320)
    return -(-size // dim_range.multiple_of) * dim_range.multiple_of


def take_turns(
    files: Mapping[str, Path], data: Path, threads: int, rounds: int, seconds: float, least: int = 1
) -> dict[str, list[list[float]]]:
    """Seconds of every run, by engine and round.

    Args:
        files: the model of each engine (one of :data:`ENGINES`), in the form that the engine reads; what
            follows a colon tells several models of one engine apart.
        data: ``.npz`` with the inputs by name.
        threads: for each engine, which is kept on as many cores.
        rounds: turns that each engine takes.
        seconds: length of a turn.
        least: runs of a turn, however long they take.

    Raises:
        InternalError: an engine's process ended.
    """
    workers: dict[str, _Worker] = {}
    try:
        for name, path in files.items():
            workers[name] = _Worker(name.partition(":")[0], path, data, threads)
        times: dict[str, list[list[float]]] = {name: [] for name in files}
        order = list(files)
        for i in range(rounds):
            for name in order[i % len(order) :] + order[: i % len(order)]:
                times[name].append(workers[name].turn(seconds, least))
        return times
    finally:
        for worker in workers.values():
            worker.close()


class _Worker:
    """One engine in its own process, stopped whenever it is not running."""

    def __init__(self, engine: str, model: Path, data: Path, threads: int) -> None:
        count = str(threads)
        environment = {
            **os.environ,
            "TVM_NUM_THREADS": count,
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
        }
        self.engine = engine
        self.process = subprocess.Popen(
            [sys.executable, "-m", "graphopt.workflows.bench_worker", engine, str(model), str(data), count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        # The last cores: the first ones take most of the machine's interrupts.
        if hasattr(os, "sched_setaffinity"):  # Linux
            os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[-threads:])
        self._answer()  # ready: loaded and warm
        self.process.send_signal(signal.SIGSTOP)

    def _answer(self) -> Any:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            tail = self.process.stderr.read().strip().splitlines()[-1:]
            raise InternalError(f"the process of {self.engine} ended: {' '.join(tail) or 'without a word'}")
        return json.loads(line)

    def turn(self, seconds: float, least: int) -> list[float]:
        """Seconds of each run in one turn."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(f"{seconds} {least}\n")
        self.process.stdin.flush()
        times: list[float] = self._answer()
        self.process.send_signal(signal.SIGSTOP)
        return times

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
