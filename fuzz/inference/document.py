"""The tables of docs/rule_inference.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphopt.errors import InputError
from graphopt.files import existing_file, write_atomically
from graphopt.fuzz.inference.holdout import THRESHOLD
from graphopt.fuzz.rules.file import RuleFile
from graphopt.fuzz.rules.rule import OperatorRule

BEGIN, END = "<!-- begin of tables -->", "<!-- end of tables -->"


def write_tables(rules: RuleFile, path: Path) -> None:
    """Replaces what stands between the page's two marks.

    Raises:
        InputError: GO-3001, there is no such page; GO-3000, it lacks the marks.
    """
    text = existing_file(path).read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{str(path)!r} has no place for tables", hint=f"mark it by {BEGIN} and {END}")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    write_atomically(path, f"{head}{BEGIN}\n{tables(rules)}{END}{tail}".encode())


def tables(rules: RuleFile) -> str:
    """All tables, as Markdown."""
    every = list(rules)
    usable = [rule for rule in every if rule.usable]
    covered = {rule.overload for rule in usable}
    records_only = set(rules.overloads()) - covered
    versions = ", ".join(f"{name} {version}" for name, version in rules.versions.items())
    lines = [
        f"Inferred with {versions}, seed {rules.seed}.",
        "",
        "| | overloads | partial operators |",
        "|---|---|---|",
        f"| seen | {len(rules.overloads()) + len(rules.missing)} | |",
        f"| with records | {len(rules.overloads())} | {len(every)} |",
        f"| with a usable rule | {len(covered)} | {len(usable)} |",
        f"| with records only | {len(records_only)} | {len(every) - len(usable)} |",
        f"| with neither | {len(rules.missing)} | |",
        "",
        *_figures(usable),
        "",
        "Records only: no partial operator of these has a usable rule.",
        "",
        "| overload | why |",
        "|---|---|",
        *(f"| `{name}` | {_reasons(rules.rules(name))} |" for name in sorted(records_only)),
        "",
        "Neither rules nor records:",
        "",
        "| why | overloads |",
        "|---|---|",
        *_missing(rules),
        "",
    ]
    return "\n".join(lines)


def _figures(usable: list[OperatorRule]) -> Iterator[str]:
    judged = [rule.holdout for rule in usable if rule.holdout is not None and rule.symbols]
    yield "Hold-out figures of usable rules, each on calls that it was not learnt from:"
    yield ""
    yield f"| | 1 exactly | from {THRESHOLD} to 1 | least |"
    yield "|---|---|---|---|"
    for name in ("precision", "recall", "exact"):
        values = [getattr(figures, name) for figures in judged]
        perfect = sum(value == 1 for value in values)
        yield f"| {name} | {perfect} | {len(values) - perfect} | {min(values, default=1):.4f} |"
    calls = sum(figures.valid + figures.invalid for figures in judged)
    valid = sum(figures.valid for figures in judged)
    yield ""
    yield f"These were {calls:,} calls, {valid:,} of them valid."


def _reasons(found: tuple[OperatorRule, ...]) -> str:
    return "; ".join(dict.fromkeys(rule.reason for rule in found))


def _missing(rules: RuleFile) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for name, reason in sorted(rules.missing.items()):
        groups.setdefault(reason, []).append(f"`{name.removeprefix('aten.')}`")
    for reason, names in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"| {reason} | {', '.join(names)} |"
