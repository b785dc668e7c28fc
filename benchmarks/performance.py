"""Writes ``docs/performance.md`` from what ``python -m benchmarks.latency --json`` measured.

``python -m benchmarks.performance one-thread.json two-threads.json open-sizes.json``: a table for each file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

_HEAD = """\
# Performance

Written by `python -m benchmarks.performance`, from `python -m benchmarks.latency --json`: float32, no tuning,
fixed sizes unless a table says otherwise. Every engine runs in a process of its own, and they take turns;
milliseconds are medians, and *faster than* is the median over the rounds of the other engine's time over
ours (above 1: ours is faster). *Ours over the better* is our time over that of the faster of onnxruntime and
OpenVINO (below 1: ours is faster than both).

*Of the roof* is the least time that the machine's two ceilings allow, over our time. Both are measured: the
rate of a large matrix product, the better of torch's and our own, and that of reading memory. The work is
the operations of products and convolutions (two a multiply-add), and the bytes of weights, inputs and
outputs, each moved once. A convolution may exceed that product's rate a little, and one by Winograd's method
does fewer operations than are counted.

*Where the time goes* names the kernels that take most of it, with their share and the number of calls.
"""

_KERNELS = 4
_RUNTIMES = ("onnxruntime", "openvino")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="JSON")
    parser.add_argument("--output", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args(arguments)
    reports = [json.loads(path.read_text()) for path in options.files]
    sections = [open_sizes(r, reports) if r["dynamic"] else section(r) for r in reports]
    options.output.write_text("\n".join([_HEAD, *sections]))
    return 0


def section(report: Mapping[str, Any]) -> str:
    """The table of one report, under its heading."""
    threads, roof = report["threads"], report["ceilings"]
    rows = [r for r in report["models"] if "failed" not in r]
    engines = [e for e in report["engines"] if e != "graphopt"]
    rivals = [e for e in _RUNTIMES if e in engines] if set(_RUNTIMES) <= set(engines) else []
    better = {r["model"]: 1 / min(r[e]["ratio"] for e in rivals) for r in rows if rivals}
    lines = [
        f"## {threads} thread{'s' if threads > 1 else ''}",
        "",
        f"{report['machine']}; ceilings {roof['gflops']:.0f} GFLOP/s and {roof['gbs']:.0f} GB/s.",
        "",
        _line(
            [
                "model",
                "ours, ms",
                *(c for e in engines for c in (f"{e}, ms", f"faster than {e}")),
                *(["ours over the better"] if rivals else []),
                "of the roof",
            ]
        ),
        "|---" * (3 + 2 * len(engines) + bool(rivals)) + "|",
    ]
    for row in rows:
        ours = row["graphopt"]["median_ms"]
        others = [f"{n:.2f}" for e in engines for n in (row[e]["median_ms"], row[e]["ratio"])]
        share = roof_share(row["work"], ours, roof)
        against = [f"{better[row['model']]:.2f}"] if rivals else []
        lines.append(_line([row["model"], f"{ours:.2f}", *others, *against, f"{share:.0%}"]))
    means = [c for e in engines for c in ("", f"{_mean([r[e]['ratio'] for r in rows]):.2f}")]
    means += [f"{_mean(list(better.values())):.2f}"] if rivals else []
    lines.append(_line(["geometric mean", "", *means, ""]))
    if any(r["kernels"] for r in rows):
        lines += ["", f"Where the time goes, on {threads} thread{'s' if threads > 1 else ''}:", ""]
        lines += [_line(["model", "kernels"]), "|---|---|"]
        lines += [_line([r["model"], slowest(r["kernels"])]) for r in rows]
    failed = [f"- {r['model']}: {r['failed']}" for r in report["models"] if "failed" in r]
    return "\n".join([*lines, *([""] + failed if failed else []), ""])


def open_sizes(report: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> str:
    """Artifacts whose batch, length, height and width are open, against those for one size."""
    threads = report["threads"]
    fixed = {
        row["model"]: row["graphopt"]["median_ms"]
        for other in reports
        if not other["dynamic"] and other["threads"] == threads
        for row in other["models"]
        if "failed" not in row
    }
    lines = [
        f"## {threads} thread{'s' if threads > 1 else ''}, sizes open",
        "",
        "The same sizes in one artifact for all that the model allows, against the artifact for just these.",
        "",
        _line(["model", "open, ms", "fixed, ms", "open over fixed"]),
        "|---|---|---|---|",
    ]
    ratios = []
    for row in report["models"]:
        if "failed" in row:
            lines.append(_line([row["model"], f"failed: {row['failed']}", "", ""]))
        elif row["model"] in fixed:
            ours, base = row["graphopt"]["median_ms"], fixed[row["model"]]
            ratios.append(ours / base)
            lines.append(_line([row["model"], f"{ours:.2f}", f"{base:.2f}", f"{ours / base:.2f}"]))
    if ratios:
        lines.append(_line(["geometric mean", "", "", f"{_mean(ratios):.2f}"]))
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def slowest(kernels: Sequence[Mapping[str, Any]]) -> str:
    """The kernels that take most of a run."""
    return ", ".join(f"`{k['kernel']}` {k['share']:.0%} ({k['calls']})" for k in kernels[:_KERNELS])


def roof_share(work: Mapping[str, float], milliseconds: float, roof: Mapping[str, float]) -> float:
    """The least time that the ceilings allow over the measured one."""
    least = max(work["flops"] / (roof["gflops"] * 1e9), work["bytes"] / (roof["gbs"] * 1e9))
    return least * 1e3 / milliseconds


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    sys.exit(main())
