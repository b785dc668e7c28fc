"""``graphopt tune``."""

from __future__ import annotations

import sys

import click

from graphopt.cli.options import (
    ExistingFile,
    database_option,
    dims_option,
    json_option,
    parse_dims,
    passes_option,
    quiet_option,
)
from graphopt.errors import EXIT_INTERRUPTED


@click.command(name="tune")
@click.argument("model", metavar="MODEL", type=ExistingFile())
@click.option("--target", default="cpu", metavar="NAME", help="Must be this machine. Default: cpu.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    help="Schedules to try, those of earlier runs included. Default: 256, without --minutes.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Go on for so long, or for --trials, whichever ends first.",
)
@database_option
@click.option("--kernels", default="*", metavar="PATTERN", help="Only kernels with such names ('*conv2d*').")
@click.option(
    "--resume/--fresh", default=True, help="Go on from what is known, or forget it first. Default: resume."
)
@passes_option("cleanup")
@dims_option
@json_option
@quiet_option
def command(
    model: str,
    target: str,
    trials: int | None,
    minutes: float | None,
    database: str | None,
    kernels: str,
    resume: bool,
    passes: str | None,
    dims: tuple[str, ...],
    json_path: str | None,
    quiet: bool,
) -> None:
    """Find faster schedules for the kernels of MODEL (.onnx or .pt2) by measuring on this machine.

    What is found is kept in a database, and 'graphopt compile' uses it.  Ctrl-C ends the search, prints
    what was won so far and exits with status 130; the same command goes on from there.
    """
    sizes = parse_dims(dims) or None
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, tuning_table
    from graphopt.codegen.tuning.progress import progress
    from graphopt.workflows.optimize import DEFAULT_PASSES
    from graphopt.workflows.tune import DEFAULT_TRIALS, tune

    with progress(trials or DEFAULT_TRIALS, minutes, quiet=quiet) as watcher:
        report = tune(
            model,
            target,
            trials=trials,
            minutes=minutes,
            database=database,
            kernels=kernels,
            fresh=not resume,
            passes=DEFAULT_PASSES if passes is None else passes,
            dims=sizes,
            watcher=watcher,
        )
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if json_path:
        write_json(report.to_dict(), json_path)
    if json_path != "-":
        out = console()
        out.print(tuning_table(report.kernels))
        before, after = report.kernel_milliseconds
        out.print(f"all kernels: {before:.3f} ms before, {after:.3f} ms after")
        if report.latency is not None:
            whole = report.latency
            out.print(
                f"whole model: {whole.before:.3f} ms before, {whole.after:.3f} ms after ({whole.gain:.2f}x)"
            )
        if report.only_alone:
            out.print(f"{report.only_alone} schedules were faster alone, but not in the model: not used")
        out.print(f"{report.trials} schedules tried in {report.seconds:.0f} s")
        out.print(f"records: {report.database}", soft_wrap=True)
    if report.interrupted:
        click.echo("interrupted; what is recorded is kept, and the same command goes on from here", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
