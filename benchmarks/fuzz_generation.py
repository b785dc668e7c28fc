"""``python -m benchmarks.fuzz_generation``: what the fuzzer's generator draws, and how fast."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graphopt.fuzz.cases import Expectation, FuzzCase
from graphopt.fuzz.generation import Options, generate
from graphopt.fuzz.generation.features import features
from graphopt.fuzz.generation.generate import generate_around
from graphopt.fuzz.generation.patterns import count, pattern, rule_names, rules
from graphopt.fuzz.graphs import build_program
from graphopt.ir.rewriter import Rewriter
from graphopt.rewriting.driver import apply_rules


@dataclass
class Figures:
    """What :func:`measure` counts.

    Attributes:
        cases: how many were drawn.
        seconds: of CPU, with screening and what is captured once.
        again: the same with everything captured already, and without dynamic axes.
        bare: as ``again``, without screening.
        origins: cases by origin.
        expectations: cases by what the rule of their template has to do.
        features: cases by feature and dtype.
        operators: cases by operator.
        pairs: distinct pairs of an operator and one that reads its result.
        sizes: operators a case, in all.
        dropped: what was drawn and thrown away, by reason.
    """

    cases: int
    seconds: float = 0.0
    again: float = 0.0
    bare: float = 0.0
    origins: Counter[str] = field(default_factory=Counter)
    expectations: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    sizes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def measure(cases: int, seed: int) -> Figures:
    """Draws a campaign's first cases, three times."""
    found = Figures(cases)
    start = time.process_time()
    drawn = [generate(seed, i, dropped=found.dropped) for i in range(cases)]
    found.seconds = time.process_time() - start
    for case in drawn:
        _count(found, case)
    static = replace(Options(), dynamic=0.0)
    for i in range(cases):
        generate(seed, i, static)  # other templates than with dynamic axes
    found.again = _seconds(cases, seed, static)
    found.bare = _seconds(cases, seed, replace(static, screened=False))
    return found


def _seconds(cases: int, seed: int, options: Options) -> float:
    start = time.process_time()
    for i in range(cases):
        generate(seed, i, options)
    return time.process_time() - start


def _count(found: Figures, case: FuzzCase) -> None:
    found.origins[case.origin] += 1
    found.features.update(features(case))
    found.operators.update(set(case.graph.operators))
    found.sizes += len(case.graph.operators)
    if case.expects is not None:
        found.expectations[case.expects] += 1
    calls = {call.name: call.operator for call in case.graph.calls}
    for call in case.graph.calls:
        found.pairs.update((calls[name], call.operator) for name in call.uses if name in calls)


def templates(each: int) -> tuple[Counter[str], list[str]]:
    """Embeds every template of every rule, and asks the rule.

    Args:
        each: how many graphs around each template.

    Returns:
        counts by outcome, and the templates that changed sides or were never drawn.
    """
    outcomes: Counter[str] = Counter()
    wrong = []
    options = replace(Options(), dynamic=0.1, intruding=0.0)
    expectations: tuple[Expectation, ...] = ("fires", "refuses")
    for rule in rule_names():
        for expects in expectations:
            for index in range(count(rule, expects)):
                template = pattern(rule, expects, index)
                for seed in range(each):
                    case = generate_around(template, seed, index, options)
                    if case is None:
                        outcomes["not drawn"] += 1
                        wrong.append(f"{rule}, {expects}, {template.words!r}: not drawn")
                        break
                    right = _fires(case) == (expects == "fires")
                    outcomes["as expected" if right else "changed sides"] += 1
                    if not right:
                        wrong.append(f"{rule}, {expects}, {template.words!r}, seed {seed}")
    return outcomes, wrong


def _fires(case: FuzzCase) -> bool:
    assert case.rule is not None
    rewriter = Rewriter(build_program(case.graph, case.seed), "template")
    (statistics,) = apply_rules(rewriter, [rules()[case.rule]])
    return bool(statistics.matched)


def _report(found: Figures) -> dict[str, Any]:
    n = found.cases
    return {
        "cases": n,
        "ms a case, first time": round(1e3 * found.seconds / n, 1),
        "ms a case, warm, fixed sizes": round(1e3 * found.again / n, 1),
        "ms a case, warm, fixed sizes, unscreened": round(1e3 * found.bare / n, 1),
        "operators a case": round(found.sizes / n, 1),
        "distinct operators": len(found.operators),
        "distinct pairs of operators": len(found.pairs),
        "origins": _shares(found.origins, n),
        "expectations": _shares(found.expectations, n),
        "features": _shares(found.features, n),
        "dropped": dict(found.dropped.most_common(25)),
    }


def _shares(counts: Mapping[str, int], total: int) -> dict[str, str]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return {name: f"{100 * value / total:.1f} %" for name, value in ordered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--templates", type=int, default=0, metavar="N", help="N graphs around each template")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    report = _report(measure(options.cases, options.seed))
    if options.templates:
        outcomes, wrong = templates(options.templates)
        report["templates"] = dict(outcomes)
        report["templates to look at"] = wrong
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in value.items():
                print(f"    {key:60} {item}")
        elif isinstance(value, list):
            print(f"{name}:", *value, sep="\n    ")
        else:
            print(f"{name}: {value}")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
