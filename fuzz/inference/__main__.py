"""Infers rules of ATen operators from calls of torch's tests and of models, or checks a file of rules."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from graphopt.errors import GraphoptError, UsageError
from graphopt.files import check_output, write_atomically
from graphopt.fuzz.rules.file import DEFAULT_PATH, RuleFile, dump_rules, load_rules


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m graphopt.fuzz.inference", description=__doc__)
    parser.add_argument("--write", metavar="FILE", type=Path, help="infer rules and write them")
    parser.add_argument(
        "--check", metavar="FILE", type=Path, nargs="?", const=DEFAULT_PATH, help="check a file"
    )
    parser.add_argument(
        "--document", metavar="FILE", type=Path, help="write the tables of docs/rule_inference.md"
    )
    parser.add_argument(
        "--ops", nargs="+", default=[], metavar="OVERLOAD", help="these only; FILE keeps the rest"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="check N rules at random, not all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)"
    )
    options = parser.parse_args(arguments)
    if not (options.write or options.check or options.document):
        parser.error("one of --write, --check and --document is needed")
    try:
        if options.write:
            _write(options)
        if options.document:
            _document(options)
        return _check(options) if options.check else 0
    except GraphoptError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_status


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(options: argparse.Namespace) -> None:
    from graphopt.fuzz.inference.build import build
    from graphopt.fuzz.traces.collect import collect
    from graphopt.fuzz.traces.record import overload_of

    for name in options.ops:
        try:
            overload_of(name)
        except LookupError as error:
            raise UsageError(str(error)) from None
    check_output(options.write, (".json",))
    before = load_rules(options.write) if options.ops and options.write.exists() else None
    started = time.monotonic()
    records = collect(seed=options.seed, progress=_say)
    traced = time.monotonic()
    _say(f"traces: {traced - started:.0f} s")
    made = build(records, seed=options.seed, jobs=options.jobs, only=options.ops, progress=_say)
    _say(f"inference: {time.monotonic() - traced:.0f} s with {options.jobs} processes")
    rules = made if before is None else _merged(before, made)
    write_atomically(options.write, dump_rules(rules).encode())
    usable = list(rules.usable())
    _say(
        f"{len(usable)} usable rules of {len({rule.overload for rule in usable})} overloads: {options.write}"
    )


def _merged(before: RuleFile, made: RuleFile) -> RuleFile:
    new = {*made.overloads(), *made.missing}
    kept = {name: before.raw(name) for name in before.overloads() if name not in new}
    missing = {name: reason for name, reason in before.missing.items() if name not in new}
    replaced = {name: made.raw(name) for name in made.overloads()}
    return RuleFile(before.versions, before.seed, missing | dict(made.missing), kept | replaced)


def _check(options: argparse.Namespace) -> int:
    from graphopt.fuzz.inference.check import check, sample

    rules = load_rules(options.check)
    chosen = [rule for rule in rules if not options.ops or rule.overload in options.ops]
    wrong = check(sample(chosen, options.sample or len(chosen), options.seed), options.seed, _say)
    for key, problems in wrong.items():
        print(key, *(f"  {problem}" for problem in problems), sep="\n")
    return 5 if wrong else 0


def _document(options: argparse.Namespace) -> None:
    from graphopt.fuzz.inference.document import write_tables

    write_tables(load_rules(options.write or options.check or DEFAULT_PATH), options.document)


if __name__ == "__main__":
    sys.exit(main())
