"""Plants mistakes in passes, exporters and code generation, and counts the cases until each is found.

``python -m benchmarks.fuzz_selfcheck`` tries every variant of :mod:`graphopt.fuzz.selfcheck` against the
generator and against uniform random graphs.  It ends with status 7 if the generator misses one within
the number of cases stated for it, or if unchanged code gives an alarm on the same cases.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIT_FOUND = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the check; the exit status."""
    import torch

    from graphopt.fuzz.selfcheck import Hunter, all_variants, generated, uniform
    from graphopt.fuzz.selfcheck.hunt import oracles_of, problems

    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    chosen = [
        v
        for v in all_variants().values()
        if (not options.stage or v.stage in options.stage) and (not options.names or v.name in options.names)
    ]
    rows: list[dict[str, Any]] = []
    ours, theirs = Hunter(generated(options.seed)), Hunter(uniform(options.seed))
    print(f"{'variant':38} {'component':38} {'within':>6} {'ours':>6} {'uniform':>8}  found by")
    for variant in chosen:
        start = time.perf_counter()
        catch = ours.hunt(variant, variant.within)
        other = None
        if not options.no_uniform:
            other = theirs.hunt(variant, options.uniform_cases or variant.within)
        rows.append(
            {
                "variant": variant.name,
                "component": variant.component,
                "words": variant.words,
                "stage": variant.stage,
                "within": variant.within,
                "cases": catch.cases,
                "uniform_cases": other.cases if other is not None else None,
                "uniform_limit": options.uniform_cases or variant.within,
                "signature": str(catch.problem.signature) if catch.problem is not None else None,
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
        shown = "-" if other is None else str(other.cases or "never")
        print(
            f"{variant.name:38} {variant.component:38} {variant.within:>6} {catch.cases or 'MISSED':>6} "
            f"{shown:>8}  {catch.problem.signature if catch.problem is not None else ''}",
            flush=True,
        )
    alarms = []
    for index in range(options.sanity):
        case = generated(options.seed)(index)
        assert case is not None
        for stage in sorted({v.stage for v in chosen}):
            alarms += [f"{case.label}: {p.signature}" for p in problems(case, oracles_of(stage))]
    missed = [row["variant"] for row in rows if row["cases"] is None]
    found = sum(row["uniform_cases"] is not None for row in rows)
    print(f"{len(rows) - len(missed)} of {len(rows)} found by the generator, {found} by uniform generation")
    print(f"{len(alarms)} alarms on unchanged code in {options.sanity} cases")
    for alarm in alarms:
        print(f"  {alarm}")
    if options.json is not None:
        options.json.write_text(json.dumps({"seed": options.seed, "rows": rows, "alarms": alarms}, indent=1))
    return EXIT_FOUND if missed or alarms else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_selfcheck", description=__doc__)
    parser.add_argument("names", nargs="*", help="variants; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the campaign of cases")
    parser.add_argument("--stage", action="append", choices=("passes", "export", "compile"))
    parser.add_argument("--no-uniform", action="store_true", help="leave out uniform generation")
    parser.add_argument("--uniform-cases", type=int, default=0, help="limit for it; default: the variant's")
    parser.add_argument("--sanity", type=int, default=100, help="cases to run on unchanged code")
    parser.add_argument("--json", type=Path, help="write the table to a file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
