"""The table of models: captured, cleaned, verified, compiled, and by how much each result differs.

``python -m benchmarks.model_table`` runs every model of the zoo, each in a process of its own with a
time limit, and prints one row a model; ``--write docs/models.md`` writes the page, ``--json FILE`` all
the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.zoo import entry, names

CUDA_MODELS = ("ppocr-det", "ppocr-rec", "ppocr-cls", "minilm", "resnet50")

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_table", description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--static", action="store_true", help="fix every axis at the example's size")
    parser.add_argument("--no-compile", action="store_true", help="stop after the cleanup passes")
    parser.add_argument("--no-cuda", action="store_true", help="leave out the code for GPUs")
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="a model, default 1800")
    parser.add_argument("--memory", type=float, default=12, metavar="GiB", help="a model, default 12")
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    parser.add_argument("--json", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    chosen = tuple(options.models or names())
    for name in chosen:
        try:
            entry(name)
        except KeyError as error:
            parser.error(str(error.args[0]))
    rows = []
    for name in chosen:
        stages = ["captured", "cleaned"]
        if not options.no_compile:
            stages += ["compiled", "cuda"] if name in CUDA_MODELS and not options.no_cuda else ["compiled"]
        row = run_model(name, options.size, stages, options.static, options.timeout, options.memory)
        rows.append(row)
        print(" | ".join(cells(row)), flush=True)
        for reason in failures(row):
            print(f"    {reason}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"size": options.size, "models": rows}, indent=1) + "\n")
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(page(rows, options.size, options.static, options.write.as_posix()))
    return 0 if all(passed(row) for row in rows) else 1


def run_model(
    name: str, size: str, stages: Sequence[str], static: bool, timeout: float, memory: float
) -> Row:
    """All stages of one model in a subprocess; ``row["failed"]`` says how the process ended, if badly."""
    limit = int(memory * 2**30)
    command = [sys.executable, "-m", "benchmarks.model_stages", name, "--size", size]
    command += ["--stages", ",".join(stages)] + (["--static"] if static else [])
    environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
    row: Row = {
        "model": name,
        "title": entry(name).title,
        "weights": entry(name).weights_at(size),
        "stages": stages,
    }
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A model that wants too much memory fails alone, and does not take the machine with it.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        row["failed"] = f"timed out after {timeout:.0f} s"
    row["seconds"] = round(time.perf_counter() - start, 1)
    for line in output.splitlines():
        if line.startswith('{"stage"'):
            result = json.loads(line)
            row[result.pop("stage")] = result
    if "failed" not in row and process.returncode not in (0, 1):
        row["failed"] = f"the process ended with {process.returncode}: {_last_line(errors)}"
    return row


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def passed(row: Row) -> bool:
    """Every stage that was asked for ended, and every comparison is within the noise rule."""
    return "failed" not in row and all(
        stage in row and "failed" not in row[stage] and row[stage].get("ok", True) for stage in row["stages"]
    )


HEADER = (
    "Model",
    "Weights",
    "Captured: nodes",
    "error / allowed",
    "Cleaned: nodes",
    "error / allowed",
    "CPU: kernels",
    "compile s",
    "error / allowed",
    "CUDA kernels",
)


def cells(row: Row) -> list[str]:
    """One row of the table; a stage that failed says ``failed``, the reasons are below the table."""
    captured, cleaned, compiled, cuda = (row.get(s, {}) for s in ("captured", "cleaned", "compiled", "cuda"))
    return [
        row["title"],
        row["weights"],
        _count(captured, "nodes"),
        _ratio(captured),
        _count(cleaned, "nodes"),
        _ratio(cleaned),
        _count(compiled, "kernels"),
        f"{compiled['seconds']:.0f}" if "seconds" in compiled else "",
        _ratio(compiled),
        _count(cuda, "kernels"),
    ]


def _count(stage: Mapping[str, Any], key: str) -> str:
    if "failed" in stage:
        return "failed"
    return str(stage[key]) if key in stage else ""


def _ratio(stage: Mapping[str, Any]) -> str:
    if "ratio" not in stage:
        return ""
    return f"{stage['ratio']:.2g}" if stage["ok"] else f"**{stage['ratio']:.3g}**"


def page(rows: Sequence[Row], size: str, static: bool, path: str) -> str:
    """The table as a document, which names the command that writes it to ``path``."""
    how = "fixed at the example's sizes" if static else "as the model allows: batch, length, height, width"
    option = "".join([" --size small" if size == "small" else "", " --static" if static else ""])
    lines = [
        "# Models",
        "",
        f"Written by `python -m benchmarks.model_table{option} --write {path}`; do not edit.",
        "",
        f"{sum(passed(r) for r in rows)} of {len(rows)} models pass every stage. Dynamic axes: {how}.",
        "*error / allowed* is the largest error over what the noise rule allows (above 1 fails): of the",
        "captured program against its source (eager torch, or onnxruntime on the file), and of the cleaned",
        "program and the compiled code against the captured program. Nodes: operators and shape arithmetic.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
        "",
    ]
    reasons = [f"- {row['title']}: {reason}" for row in rows for reason in failures(row)]
    if reasons:
        lines += ["## What does not pass", "", *reasons, ""]
    return "\n".join(lines)


def failures(row: Row) -> list[str]:
    """Why the row does not pass, one line a reason."""
    found = [f"{stage}: {row[stage]['failed']}" for stage in row["stages"] if "failed" in row.get(stage, {})]
    found += [
        f"{stage}: {' '.join(row[stage]['problem'].split())}"
        for stage in row["stages"]
        if "problem" in row.get(stage, {})
    ]
    if "failed" in row:
        found.append(row["failed"])
    return found


if __name__ == "__main__":
    sys.exit(main())
