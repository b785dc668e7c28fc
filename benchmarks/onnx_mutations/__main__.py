"""The campaign: draws cases by seed, runs each in the sandbox, and tallies how they ended."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from benchmarks.onnx_mutations import (  # noqa: F401  (fill the catalogue)
    bombs,
    external,
    fields,
    samples,
    structure,
    wire,
)
from benchmarks.onnx_mutations.catalogue import MUTATIONS, Mutation, NotApplicable
from benchmarks.onnx_mutations.sandbox import BAD, GOOD, Outcome, run


@dataclass(frozen=True)
class Case:
    """One mutated file; all of it follows from the number and the campaign's seed."""

    number: int
    mutation: Mutation
    seed: str


def cases(count: int, seed: int, only: str = "") -> list[Case]:
    """``count`` cases: the mutations in turn, each as often as its weight says."""
    pool = [m for m in MUTATIONS.values() if only in m.name]
    turn = [m for m in pool for _ in range(m.weight)]
    random.Random(seed).shuffle(turn)
    return [Case(i, turn[i % len(turn)], f"{seed}/{i}") for i in range(count)]


def write(case: Case, folder: Path, models: dict[str, bytes]) -> str:
    """Writes the case's files below ``folder``; returns the name of the sample that was mutated."""
    generator = random.Random(case.seed)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.bin").write_bytes(samples.external_bytes())
    (folder / "model" / "weights.bin").write_bytes(samples.external_bytes())
    names = [n for n in case.mutation.samples or samples.SMALL if n in models]
    while True:
        name = "(made)" if case.mutation.from_scratch else generator.choice(names)
        model = onnx.ModelProto() if case.mutation.from_scratch else onnx.ModelProto.FromString(models[name])
        try:
            changed = case.mutation.function(generator, model, folder / "model")
        except NotApplicable:
            continue
        data = changed if isinstance(changed, bytes) else changed.SerializeToString()
        (folder / "model" / "model.onnx").write_bytes(data)
        return name


def warm_up(folder: Path, models: dict[str, bytes]) -> None:
    """Imports all that importing and comparing import, so that no case pays for it."""
    import torch

    from graphopt import load
    from graphopt.verification import OnnxRuntimeRunner, verify

    # Threads do not survive a fork: a child would wait for them for ever.
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    for name in ("residual_cnn", "control_flow"):
        path = folder / f"{name}.onnx"
        path.write_bytes(models[name])
        verify(load(path), OnnxRuntimeRunner(path), draws=1)
    gc.collect()
    gc.freeze()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_mutations", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations whose name contains this")
    parser.add_argument("--small", action="store_true", help="leave PP-OCRv4's files out")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="run one case of the campaign")
    parser.add_argument("--verbose", action="store_true", help="say of every case how it ended")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of bad cases there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    models = {name: build().SerializeToString() for name, build in samples.SMALL.items()}
    if not options.small:
        models |= {name: path.read_bytes() for name, path in samples.real().items()}
    runnable = [
        c
        for c in cases(options.cases, options.seed, options.only)
        if set(c.mutation.samples or models) & set(models)
    ]
    if options.case is not None:
        runnable = [c for c in runnable if c.number == options.case]
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="graphopt-mutations-") as temporary:
        warm_up(Path(temporary) / "warm", models)
        # Ctrl-C ends the campaign with what there is.
        with contextlib.suppress(KeyboardInterrupt):
            for case in runnable:
                rows.append(try_case(case, Path(temporary) / "case", models, options))
    seconds = time.monotonic() - started
    tally: dict[str, Counter[str]] = {}
    for row in rows:
        tally.setdefault(row["mutation"], Counter())[row["verdict"]] += 1
    print(table(tally))
    bad = sum(row["verdict"] in BAD for row in rows)
    slowest = max(rows, key=lambda r: r["seconds"], default=None)
    print(f"\n{len(rows)} cases in {seconds:.0f} s, {bad} bad", end="")
    print(f"; slowest import {slowest['seconds']:.1f} s (case {slowest['case']})" if slowest else "")
    if options.json is not None:
        summary = {"seed": options.seed, "seconds": round(seconds), "bad": bad, "tally": tally, "cases": rows}
        options.json.write_text(json.dumps(summary, indent=1))
    return 1 if bad else 0


def try_case(
    case: Case, folder: Path, models: dict[str, bytes], options: argparse.Namespace
) -> dict[str, Any]:
    """Writes and runs one case; prints it if it ended badly, or if asked to."""
    sample = write(case, folder, models)
    outcome = run(folder / "model" / "model.onnx", folder / "outside")
    if outcome.bad or options.case is not None or options.verbose:
        line = f"case {case.number} {case.mutation.name} of {sample}: {describe(outcome)}"
        print(line, file=sys.stderr, flush=True)
        if options.keep is not None:
            kept = options.keep / str(case.number)
            shutil.copytree(folder / "model", kept, dirs_exist_ok=True, symlinks=True)
    return {"case": case.number, "mutation": case.mutation.name, "sample": sample, **outcome.as_dict()}


def describe(outcome: Outcome) -> str:
    return f"{outcome.verdict} ({outcome.seconds:.1f} s, {outcome.megabytes:.0f} MB) {outcome.detail}"


def table(tally: dict[str, Counter[str]]) -> str:
    """Mutations by outcomes, with a line of totals."""
    columns = (*GOOD, *BAD)
    lines = ["mutation".ljust(28) + "".join(c.rjust(13) for c in columns)]
    total: Counter[str] = sum(tally.values(), Counter())
    for name, row in [*sorted(tally.items()), ("all", total)]:
        lines.append(name.ljust(28) + "".join(str(row[c] or "·").rjust(13) for c in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
