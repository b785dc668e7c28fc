"""Runs the script of every known issue, and says which bugs are still there.

``python -m benchmarks.known_issues``, or with the names of some; ``--write docs/known_issues.md`` writes the
page.  Each script runs in a process of its own.  Exit status 1 when a bug is gone (its workaround is then to
be removed, and its entry) or a script does not run to its end.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphopt.errors import did_you_mean
from graphopt.fuzz.known import KnownIssue, known_issues
from graphopt.fuzz.known.scripts import run_script

_SECONDS = 300.0


def other_versions(issue: KnownIssue) -> list[str]:
    """Packages whose installed version is not the one in which the bug was seen."""
    found = []
    for package, seen in issue.versions.items():
        try:
            installed = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "absent"
        if installed != seen:
            found.append(f"{package} {installed} (seen in {seen})")
    return found


_INTRODUCTION = """\
# Known issues

Bugs of the libraries that graphopt builds on, each with a script that shows it without graphopt, and what
graphopt does about it. The fuzzer counts a finding with one of their signatures as known.
`python -m benchmarks.known_issues` runs all scripts in a few minutes, and fails when a bug is gone, so that
its workaround goes too; with `--write docs/known_issues.md` it writes this page from the entries in
`fuzz/known/`.
"""


def page(issues: Sequence[KnownIssue]) -> str:
    """The Markdown page."""
    lines = [_INTRODUCTION.rstrip()]
    for component in dict.fromkeys(issue.component for issue in issues):
        own = [issue for issue in issues if issue.component == component]
        versions = sorted({f"{name} {version}" for issue in own for name, version in issue.versions.items()})
        lines += ["", f"## {component}", "", f"{len(own)} issues, seen in {', '.join(versions)}.", ""]
        lines += ["| issue | what is wrong | here |", "|---|---|---|"]
        for issue in own:
            link = f"[{issue.id}](../fuzz/known/{issue.id}/repro.py)"
            place = f" (`{issue.place}`)" if issue.place else ""
            cells = (link, _cell(issue.sentence), _cell(issue.workaround) + place)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def chosen(names: Sequence[str]) -> Iterator[KnownIssue]:
    """Issues by their names; all where none is given."""
    issues = {issue.id: issue for issue in known_issues()}
    for name in names or issues:
        if name not in issues:
            hint = did_you_mean(name, issues)
            raise SystemExit(f"there is no known issue {name!r}" + (f"; {hint}" if hint else ""))
        yield issues[name]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line an issue; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_issues", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these issues")
    parser.add_argument("--write", metavar="FILE", help="write the page")
    options = parser.parse_args(arguments)
    by_status: dict[str, list[str]] = {}
    for issue in chosen(options.names):
        result = run_script(issue.script.read_text(encoding="utf-8"), _SECONDS)
        by_status.setdefault(result.status, []).append(issue.id)
        versions = f" [{', '.join(other)}]" if (other := other_versions(issue)) else ""
        print(
            f"{result.status:11} {result.seconds:5.1f} s  {issue.id}: {result.detail}{versions}", flush=True
        )
    fixed, broken = by_status.get("gone"), by_status.get("broken")
    if fixed:
        print(f"gone, so their workarounds and entries can go: {', '.join(fixed)}", file=sys.stderr)
    if broken:
        print(f"scripts that do not run: {', '.join(broken)}", file=sys.stderr)
    if options.write and not (fixed or broken):
        Path(options.write).write_text(page(known_issues()), encoding="utf-8")
    return 1 if fixed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
