"""Compiles random kernels and compares them with their programs: ``python -m benchmarks.kernel_fuzz``.

Prints a line for each family: how many cases agree, were refused as unsupported, or are wrong; and every
wrong one with its seed, which reproduces it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from graphopt.fuzz.kernels import FAMILIES, KernelFamily


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=50, help="of each family")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--families", nargs="+", choices=[f.name for f in FAMILIES])
    parser.add_argument("--target", default="cpu")
    options = parser.parse_args(arguments)
    os.environ["GRAPHOPT_CACHE"] = "off"
    wrong = 0
    print(f"{'family':18}{'agree':>7}{'refused':>9}{'wrong':>7}{'seconds':>9}  rules")
    for family in FAMILIES:
        if options.families and family.name not in options.families:
            continue
        start, tally, rules = time.monotonic(), Counter[str](), Counter[str]()
        for seed in range(options.first, options.first + options.cases):
            outcome, found, message = run(family, seed, options.target)
            tally[outcome] += 1
            rules.update(found)
            if outcome == "wrong":
                print(f"{family.name} {seed}: {message}", flush=True)
        wrong += tally["wrong"]
        counts = "".join(f"{tally[o]:>{w}}" for o, w in (("agree", 7), ("refused", 9), ("wrong", 7)))
        seconds = time.monotonic() - start
        kinds = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        print(f"{family.name:18}{counts}{seconds:9.0f}  {kinds}", flush=True)
    return 1 if wrong else 0


def run(family: KernelFamily, seed: int, target: str) -> tuple[str, list[str], str]:
    """``agree``, ``refused`` or ``wrong``; the schedule rules of its kernels; what is wrong."""
    import graphopt
    from graphopt.errors import InputError, InternalError, VerificationError
    from graphopt.verification import verify

    case = family.case(seed)
    program = graphopt.capture(case.module, case.inputs, dynamic_shapes=case.dynamic_shapes)
    try:
        artifact = graphopt.compile(program, target=target)
    except InputError as error:
        return "refused", [], str(error)
    except InternalError as error:
        return "wrong", [], str(error)
    rules = [kernel.rule for kernel in artifact.kernels()]
    try:
        verify(program, artifact, draws=3 if case.dynamic_shapes else 1, runs=2).raise_if_failed()
    except VerificationError as error:
        return "wrong", rules, str(error)
    return "agree", rules, ""


if __name__ == "__main__":
    sys.exit(main())
