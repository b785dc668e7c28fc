"""``python -m benchmarks.emulation``: wrong schedules that are caught, right ones that are not."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.emulation.edit import NothingToChange
from benchmarks.emulation.kernels import TARGET, subject
from benchmarks.emulation.models import MODELS, check_model
from benchmarks.emulation.mutations import MUTATIONS, Mutation
from graphopt.codegen import find_target
from graphopt.codegen.emulate import KernelCheck, check_kernel


def run_mutation(mutation: Mutation) -> KernelCheck:
    """Check the wrong kernel."""
    right = subject(mutation.subject)
    return check_kernel(
        right.meaning, mutation.change(right.lowered), find_target(TARGET), name=mutation.name
    )


def caught(mutation: Mutation, check: KernelCheck) -> bool:
    """Whether a checker that the mutation is for found it."""
    return any(finding.checker in mutation.checkers for finding in check.findings)


def _mutations() -> int:
    missed = 0
    for mutation in MUTATIONS:
        try:
            check = run_mutation(mutation)
        except NothingToChange:
            check = KernelCheck(mutation.name, "unchanged")
        found = ", ".join(dict.fromkeys(f.checker for f in check.findings)) or "nothing"
        right = caught(mutation, check)
        missed += not right
        mark = "caught" if right else "MISSED"
        wanted = "" if right else f" instead of {' or '.join(mutation.checkers)}"
        print(f"{mark}  {mutation.subject:12}  {mutation.name}: {found}{wanted}", flush=True)
        if not right and check.findings:
            print(f"        {check.findings[0].message}")
    print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} wrong schedules caught")
    return missed


def _models(names: Sequence[str]) -> int:
    total = alarms = 0
    for name, size in MODELS:
        if names and name not in names:
            continue
        started = time.process_time()
        checks = check_model(name, size)
        wrong = [c for c in checks if not c.ok]
        kernels = sum(1 + len(c.copies) for c in checks)
        total, alarms = total + kernels, alarms + len(wrong)
        seconds = time.process_time() - started
        worst = max((c.ratio or 0.0 for c in checks), default=0.0)
        print(
            f"{name} ({size}): {kernels} kernels, {len(checks)} different, {len(wrong)} alarms, "
            f"largest error/allowed {worst:.3f}, {seconds:.0f} s",
            flush=True,
        )
        for check in wrong:
            print(f"  {check.name} ({check.rule}): {check.findings[0]}", flush=True)
    print(f"{alarms} alarms on {total} kernels")
    return alarms


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulation", description=__doc__)
    parser.add_argument("--models", nargs="*", metavar="NAME", help="zoo models (default: all of the table)")
    parser.add_argument("--only", choices=("mutations", "models"), help="one of the two parts")
    arguments = parser.parse_args()
    wrong = 0
    if arguments.only != "models":
        wrong += _mutations()
    if arguments.only != "mutations":
        wrong += _models(arguments.models or ())
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
