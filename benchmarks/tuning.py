"""What tuning wins on models of the zoo.

``python -m benchmarks.tuning`` tunes each model at its full size from an empty database and prints its
latency before and after: both artifacts run in processes that take turns, and *gain* is the median over
the turns of before / after.  ``graphopt.tune`` has verified the tuned program then.  ``taskset -c 0``
before the command tunes for one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.zoo import entry

MODELS = ("ppocr-cls", "mobilenet-v2", "minilm")

_COLUMNS = ("model", "kernels", "faster", "trials", "rejected", "seconds", "before ms", "after ms", "gain")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="NAME")
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--database", type=Path, metavar="FOLDER", help="keep the records, and go on from there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    for name in options.models:
        try:
            entry(name)
        except KeyError as error:
            parser.error(str(error.args[0]))
    print("| " + " | ".join(_COLUMNS) + " |\n|" + "---|" * len(_COLUMNS))
    reports = []
    with tempfile.TemporaryDirectory(prefix="graphopt-tuning-") as temporary:
        for name in options.models:
            folder = options.database or Path(temporary)
            report = tune(name, options.size, options.trials, folder)
            reports.append({"model": name, **report})
            print(format_row(name, report), flush=True)
    if options.json:
        options.json.write_text(json.dumps(reports, indent=1) + "\n")
    return 0


def tune(name: str, size: Any, trials: int, database: Path) -> dict[str, Any]:
    """The report of tuning one model, as JSON values."""
    import torch

    import graphopt
    from benchmarks.zoo import get

    torch.manual_seed(0)
    program = get(name, size).capture(dynamic=False)
    return graphopt.tune(program, trials=trials, database=database).to_dict()


def format_row(name: str, report: dict[str, Any]) -> str:
    """One line of the table."""
    kernels = report["kernels"]
    latency = report["latency"]
    times = ["–", "–", "–"]
    if latency is not None:
        times = [f"{latency['before']:.3f}", f"{latency['after']:.3f}", f"{latency['gain']:.2f}"]
    cells = [
        name,
        str(len(kernels)),
        str(sum(bool(k["decisions"]) for k in kernels)),
        str(sum(k["trials"] for k in kernels)),
        str(sum(k["rejected"] for k in kernels)),
        f"{report['seconds']:.0f}",
        *times,
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
