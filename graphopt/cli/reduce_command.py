"""``graphopt reduce``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli.options import ExistingFile, json_option, quiet_option

if TYPE_CHECKING:
    from graphopt.workflows.reduce import Stored


@click.command(name="reduce")
@click.argument("finding", metavar="FINDING", type=ExistingFile(folder=True))
@click.option("--check", is_flag=True, help="Only look whether the problem is still there.")
@click.option(
    "--oracle", metavar="NAME", help="Look for problems that this oracle sees. Default: the finding's."
)
@click.option("--isolate", is_flag=True, help="Look in another process: the case of a file may kill it.")
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="How often the oracle may be asked.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Where the result goes. Default: FINDING, if it is a folder.",
)
@json_option
@quiet_option
def command(
    finding: str,
    check: bool,
    oracle: str | None,
    isolate: bool,
    budget: int,
    output: str | None,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Make FINDING smaller: a folder that 'fuzz' wrote, or the file of a case (.json).

    The problem keeps its signature. FOLDER gets a script that shows it, the case, its numbers and a report.

    Exit status 7 when --check finds that the problem is still there, 0 when it is gone.
    """
    from graphopt.errors import InputError, UsageError
    from graphopt.files import check_output_folder
    from graphopt.workflows import reduce as work

    stored = work.read(finding)
    if check:
        if output is not None:
            raise UsageError("--check writes nothing; leave out --output")
        _check(stored, work.still_there(stored, oracle, isolate=isolate), json_path)
        return
    if output is None:
        if not Path(finding).is_dir():
            raise UsageError("a case's file needs --output FOLDER")
        output = finding
    elif not (Path(output) / "report.json").is_file():
        check_output_folder(output)
    reduced, name = work.reduce(stored, oracle=oracle, budget=budget, isolate=isolate)
    if not reduced.reproduced:
        raise InputError(
            f"{reduced.finding.signature} did not come back; nothing was written",
            hint="it may be fixed, or depend on something that is not in the case",
        )
    from graphopt.cli.output import write_json
    from graphopt.fuzz.reduction import write_finding

    write_finding(output, reduced, name, command=stored.command)
    if not quiet:
        for i, step in enumerate(reduced.steps, 1):
            click.echo(f"{i:3} {'+' if step.kept else '-'} {step.words}", err=True)
    if json_path:
        write_json(json.loads((Path(output) / "report.json").read_text(encoding="utf-8")), json_path)
    if json_path != "-":
        before, after = len(reduced.original.graph.operators), len(reduced.case.graph.operators)
        click.echo(
            f"{reduced.finding.signature}\n{before} -> {after} operators, {reduced.calls} calls of {name}"
        )
        click.echo(str(reduced.case.graph))
        click.echo(f"show it again: python {Path(output) / 'repro.py'}")


def _check(stored: Stored, signatures: list[str], json_path: str | None) -> None:
    from graphopt.cli.output import write_json
    from graphopt.errors import FindingError

    if json_path:
        same = stored.finding is not None and str(stored.finding.signature) in signatures
        write_json({"schema": "graphopt.reduce/1", "problems": signatures, "same": same}, json_path)
    if signatures:
        raise FindingError("still there: " + "; ".join(signatures))
    if json_path != "-":
        click.echo("gone")
