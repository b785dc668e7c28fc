"""What torch's two ONNX exporters write: does it import, and does it agree with onnxruntime?

``python -m benchmarks.onnx_exports`` exports small models in every opset and dtype, with the axes that
vary in the model left open, imports each file once and compares it with onnxruntime at three sizes of
the open axes.  One row a model and exporter, one column an opset and dtype:

    ok            imported, and within the noise rule at every size
    fixed: N      the same, but the importer had to fix the dimension N
    GO-nnnn       the importer refused the file with this code
    differs       beyond what rounding explains
    no export     the exporter failed by itself
    no runtime    onnxruntime does not load or run the file
    timeout       a step ran over its time limit
    crash         a step ended with another error than graphopt's own

Each export and each import is a process of its own, forked from a server that has torch loaded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.onnx_export_models import NAMES
from benchmarks.onnx_export_steps import Outcome, export_step, import_step, runtime_step

OPSETS = {"torchscript": (11, 13, 14, 16, 17, 20), "dynamo": (18, 20, 23)}
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Cell:
    """One file: which model, who wrote it, and what became of it."""

    model: str
    exporter: str
    opset: int
    dtype: str
    outcome: Outcome
    seconds: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onnx_exports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--exporters", nargs="+", choices=tuple(OPSETS), default=tuple(OPSETS))
    parser.add_argument("--opsets", nargs="+", type=int, help="only these")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="a step, default 120")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the exported files here")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for model in options.models:
            for exporter in options.exporters:
                opsets = [o for o in OPSETS[exporter] if not options.opsets or o in options.opsets]
                row = [
                    run_cell(Cell(model, exporter, opset, dtype, Outcome("")), folder, options.timeout)
                    for dtype in options.dtypes
                    for opset in opsets
                ]
                cells += row
                print(f"{model:22} {exporter:12} " + " ".join(map(_column, row)), flush=True)
                for reason in dict.fromkeys(c.outcome.detail for c in row if c.outcome.detail):
                    print(f"    {reason}", flush=True)
    tally = Counter(c.outcome.kind for c in cells)
    print(", ".join(f"{count} {kind}" for kind, count in tally.most_common()))
    if options.json:
        options.json.write_text(json.dumps([asdict(c) for c in cells], indent=1) + "\n")
    # What an exporter or onnxruntime cannot do says nothing about the importer.
    return 0 if all(c.outcome.passed or c.outcome.kind in ("no export", "no runtime") for c in cells) else 1


def run_cell(cell: Cell, folder: Path, timeout: float) -> Cell:
    """Exports and imports one file, each in a process of its own."""
    path = folder / f"{cell.model}-{cell.exporter}-{cell.opset}-{cell.dtype}.onnx"
    start = time.perf_counter()
    outcome = in_process(
        export_step, (cell.model, cell.exporter, cell.opset, cell.dtype, str(path)), timeout, "export"
    )
    if outcome.passed:
        outcome = in_process(runtime_step, (cell.model, cell.dtype, str(path)), timeout, "onnxruntime")
        if outcome.kind == "crash":
            outcome = replace(outcome, kind="no runtime")
    if outcome.passed:
        outcome = in_process(import_step, (cell.model, cell.dtype, str(path)), timeout, "import")
    return replace(cell, outcome=outcome, seconds=round(time.perf_counter() - start, 1))


def in_process(step: Callable[..., Outcome], arguments: Sequence[Any], timeout: float, what: str) -> Outcome:
    """What a step returns; a step that hangs or dies has an outcome too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.onnx_export_preload"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, step, tuple(arguments)))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return Outcome("timeout", f"{what}: over {timeout:.0f} s")
        return receiver.recv()
    except EOFError:
        process.join()
        return Outcome("crash", f"{what}: the process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(
    sender: multiprocessing.connection.Connection, step: Callable[..., Outcome], arguments: tuple[Any, ...]
) -> None:
    # The exporters print whole graphs, from C++ too.
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silent, descriptor)
    sender.send(step(*arguments))
    sender.close()


def _column(cell: Cell) -> str:
    short = "32" if cell.dtype == "float32" else "16"
    return f"{cell.opset}/{short}:{cell.outcome.kind}"


if __name__ == "__main__":
    sys.exit(main())
