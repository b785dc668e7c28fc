"""Latency of compiled models against other engines, measured so that it can be believed.

``python -m benchmarks.latency`` takes the models of the zoo at their full size (PP-OCRv4 det 640x640,
rec 48x320, cls 48x192, vision models 224x224, texts of 128 tokens, decode steps after 127;
``minilm@sequence=16`` has other sizes).  Every
engine runs in a process of its own; the processes take turns, and those that wait are stopped, since
idle worker threads that spin slow down whoever runs.  Figures are medians; *ratio* is the engine's
time over ours, the median over the rounds (above 1: ours is faster).

torch runs the captured graph eagerly, torch-compile through its inductor.  onnxruntime and OpenVINO
run the original file or, for models from torch, the file that ``torch.onnx.export(dynamo=True)`` writes.
Ours is compiled for fixed sizes unless ``--dynamic`` is given; results are checked by
``python -m benchmarks.model_table``, not here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ceilings import ceilings
from benchmarks.kernel_times import kernel_times
from benchmarks.latency_files import FILES
from benchmarks.zoo import entry

MODELS = (
    "ppocr-det", "ppocr-rec", "ppocr-cls", "resnet50", "mobilenet-v2", "mobilenet-v3", "convnext-t", "swin-t",
    "vit-s", "poolformer-s12", "pvt-v2-b0", "minilm", "minilm@sequence=16", "bert-base", "smollm2-prefill",
    "smollm2-decode", "smollm2-decode@past=511",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--engines", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--dynamic", action="store_true", help="compile for varying sizes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn")
    parser.add_argument("--runs", type=int, default=50, help="of each engine at least, over all turns")
    parser.add_argument("--timeout", type=float, default=1800, help="of preparing a model, seconds")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files, and reuse those there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    for name in options.models:
        try:
            entry(name.partition("@")[0])
        except KeyError as error:
            parser.error(str(error.args[0]))
    if "graphopt" not in options.engines:
        parser.error("ratios are to graphopt: name it among the engines")
    print(f"{'model':28}" + "".join(f"{e + ' ms':>18}" for e in options.engines) + f"{'ratios':>20}")
    rows: list[dict[str, Any]] = []
    report = {
        "machine": machine(),
        "threads": options.threads,
        "dynamic": options.dynamic,
        "engines": options.engines,
        "ceilings": ceilings(options.threads),
        "models": rows,
    }
    with tempfile.TemporaryDirectory(prefix="graphopt-latency-") as temporary:
        for name in options.models:
            row = measure(name, options, options.keep or Path(temporary))
            rows.append(row)
            print(format_row(row, options.engines), flush=True)
            if options.json:  # after each model: the whole list takes long
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if not any("failed" in row for row in rows) else 1


def machine() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure(name: str, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """One row: medians in milliseconds and ratios by engine, or the reason why there are none."""
    from graphopt.errors import GraphoptError
    from graphopt.workflows.bench import take_turns

    folder = root / f"{name.replace('@', '-')}-{options.size}{'-dynamic' if options.dynamic else ''}"
    row: dict[str, Any] = {"model": name}
    problem = prepare(name, options, folder)
    if problem is not None:
        return {**row, "failed": problem}
    files = {engine: folder / FILES[engine] for engine in options.engines}
    try:
        least = -(-options.runs // options.rounds)
        data = folder / "inputs.npz"
        times = take_turns(files, data, options.threads, options.rounds, options.seconds, least)
    except GraphoptError as error:
        return {**row, "failed": str(error)}
    work = json.loads((folder / "work.json").read_text())
    kernels = kernel_times(files["graphopt"], folder / "inputs.npz", options.threads)
    return {**row, "work": work, "kernels": kernels, **summary(times)}


def prepare(name: str, options: argparse.Namespace, folder: Path) -> str | None:
    """Makes the files in a subprocess, so that no engine's threads live in this one; None or the reason."""
    command = [sys.executable, "-m", "benchmarks.latency_files", name, str(folder), "--size", options.size]
    command += ["--engines", ",".join(options.engines)] + (["--dynamic"] if options.dynamic else [])
    environment = {"HF_HUB_OFFLINE": "1", **os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=options.timeout
        )
    except subprocess.TimeoutExpired:
        return f"preparing timed out after {options.timeout:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"preparing ended with {done.returncode}"


def summary(times: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Median over all runs, and the median over the rounds of each engine's time over ours."""
    ours = times["graphopt"]
    return {
        engine: {
            "median_ms": statistics.median(t for turn in turns for t in turn) * 1e3,
            "min_ms": min(t for turn in turns for t in turn) * 1e3,
            "runs": sum(len(turn) for turn in turns),
            "ratio": statistics.median(
                statistics.median(theirs) / statistics.median(mine)
                for theirs, mine in zip(turns, ours, strict=True)
            ),
        }
        for engine, turns in times.items()
    }


def format_row(row: Mapping[str, Any], engines: Sequence[str]) -> str:
    """One line of the table."""
    if "failed" in row:
        return f"{row['model']:28}failed: {row['failed']}"
    ratios = ", ".join(f"{e} {row[e]['ratio']:.2f}" for e in engines if e != "graphopt")
    return f"{row['model']:28}" + "".join(f"{row[e]['median_ms']:18.3f}" for e in engines) + f"  {ratios:>18}"


if __name__ == "__main__":
    sys.exit(main())
