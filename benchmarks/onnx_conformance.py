"""Runs the backend tests of the onnx package through the importer and counts what passes.

    python -m benchmarks.onnx_conformance --json conformance.json
    python -m benchmarks.onnx_conformance --filter resize --verbose
    python -m benchmarks.onnx_conformance --suite node --suite simple --through-export
    python -m benchmarks.onnx_conformance --ratchet tests/frontends_onnx/passing.txt

The first path is import -> eager torch, the second import -> export -> onnxruntime.  Tests are compared with
the tolerances that ONNX gives them; dtypes and shapes must be equal.  Expanded variants are left out: they
test the function bodies of operators, which the importer expands by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from benchmarks.conformance.cases import SUITES, case, case_names
from benchmarks.conformance.ratchet import lost, read_ratchet, write_ratchet
from benchmarks.conformance.reasons import reason_of
from benchmarks.conformance.runner import Outcome, run_case

Key = tuple[str, str]
"""Suite and name of a test."""


def run_one(key: Key, through_export: bool = False) -> Outcome:
    """Runs one test; in a process of a pool."""
    try:
        found = case(*key)
    except KeyError:
        return Outcome(key[1], key[0], "", "crash", "the onnx package has no such test")
    return run_case(found, through_export=through_export)


def run_all(keys: Sequence[Key], *, through_export: bool, jobs: int) -> Iterator[Outcome]:
    """Runs tests in their order, on ``jobs`` processes of one thread each."""
    options = [through_export] * len(keys)
    if jobs == 1 or len(keys) < 8:
        yield from map(run_one, keys, options)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_one, keys, options, chunksize=8)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", action="append", choices=[*SUITES, "all"], help="default: node")
    parser.add_argument("--filter", default="", help="regular expression on test names")
    parser.add_argument("--through-export", action="store_true", help="take the second path too")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument("--verbose", action="store_true", help="print the tests that do not pass")
    parser.add_argument("--ratchet", type=Path, metavar="FILE", help="run the listed tests; 1 if one fails")
    parser.add_argument("--update-ratchet", type=Path, metavar="FILE", help="add the tests that pass")
    options = parser.parse_args(arguments)
    if options.ratchet is not None:
        keys = [(s, n) for s, _, n in (e.partition("/") for e in read_ratchet(options.ratchet))]
    else:
        suites = SUITES if "all" in (options.suite or []) else options.suite or ["node"]
        keys = [(s, n) for s in suites for n in case_names(s, options.filter)]
    outcomes = []
    for outcome in run_all(keys, through_export=options.through_export, jobs=options.jobs):
        outcomes.append(outcome)
        if options.verbose and not outcome.passed:
            print(f"{outcome.status:12} {outcome.name}: {outcome.detail}", file=sys.stderr)
        if options.verbose and outcome.export not in ("", "passed"):
            print(f"export {outcome.export:12} {outcome.name}: {outcome.export_detail}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1) + "\n")
    passing = {f"{o.suite}/{o.name}" for o in outcomes if o.passed}
    if options.ratchet is not None:
        return _report_lost(options.ratchet, passing)
    _print_operators(outcomes, options.through_export)
    _print_totals(outcomes, options.through_export)
    _print_reasons(outcomes)
    if options.update_ratchet is not None:
        known = read_ratchet(options.update_ratchet) if options.update_ratchet.exists() else []
        write_ratchet(options.update_ratchet, [*known, *passing])
    return 0


def _report_lost(path: Path, passing: set[str]) -> int:
    entries = read_ratchet(path)
    gone = lost(entries, passing)
    for entry in gone:
        print(f"no longer passes: {entry}")
    print(f"{len(entries) - len(gone)} of {len(entries)} listed tests pass")
    return 1 if gone else 0


def _print_operators(outcomes: Sequence[Outcome], exported: bool) -> None:
    """One line an operator: tests that pass, on each path."""
    total, first, second = Counter[str](), Counter[str](), Counter[str]()
    for outcome in outcomes:
        total[outcome.op] += 1
        first[outcome.op] += outcome.passed
        second[outcome.op] += outcome.export == "passed"
    print(f"{'operator':32} {'tests':>5} {'pass':>5}" + (f" {'exported':>9}" if exported else ""))
    for op_type, count in sorted(total.items()):
        more = f" {second[op_type]:9}" if exported else ""
        print(f"{op_type:32} {count:5} {first[op_type]:5}{more}")


def _print_totals(outcomes: Sequence[Outcome], exported: bool) -> None:
    by_suite: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_suite[outcome.suite].append(outcome)
    print()
    for suite, members in by_suite.items():
        status = Counter(o.status for o in members)
        kinds = ", ".join(f"{s} {n}" for s, n in status.most_common())
        print(f"{suite}: {sum(o.passed for o in members)} of {len(members)} pass ({kinds})")
        if exported:
            ends = Counter(o.export for o in members if o.export)
            kinds = ", ".join(f"{s} {n}" for s, n in ends.most_common())
            print(f"{suite}, through export: {ends['passed']} of {len(members)} pass ({kinds})")


def _print_reasons(outcomes: Sequence[Outcome]) -> None:
    """What fails: by design, with the reason; and the rest by name."""
    failed = [o for o in outcomes if not o.passed]
    explained = Counter(r for o in failed if (r := reason_of(o.name)) is not None)
    if explained:
        print("\nnot supported by design:")
    for text, count in explained.most_common():
        print(f"{count:5}  {text}")
    rest = [o for o in failed if reason_of(o.name) is None]
    if rest:
        print("\nfailing without a reason:")
    for outcome in rest:
        print(f"       {outcome.name}: {outcome.status} {outcome.detail[:120]}")


if __name__ == "__main__":
    sys.exit(main())
