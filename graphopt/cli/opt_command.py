"""``graphopt opt``."""

from __future__ import annotations

import sys
from typing import Any, cast

import click

from graphopt.cli.options import (
    ExistingFile,
    NewFile,
    dims_option,
    inputs_option,
    json_option,
    parse_dims,
    passes_option,
    quiet_option,
    verification_options,
)
from graphopt.errors import UsageError


@click.command(name="opt")
@click.argument("model", metavar="MODEL", type=ExistingFile())
@click.option(
    "-o",
    "--output",
    type=NewFile((".onnx", ".pt2")),
    metavar="FILE",
    help="The model to write (.onnx or .pt2). Without it nothing is written.",
)
@passes_option("cleanup")
@dims_option
@inputs_option
@click.option(
    "--verify",
    "verify_when",
    type=click.Choice(["each", "final", "off"]),
    default="each",
    show_default=True,
    help="Verify after each pass, once at the end, or not at all.",
)
@verification_options
@click.option(
    "--print-after", "print_after", multiple=True, metavar="PASS", help="Print the program after a pass."
)
@click.option("--dump", metavar="FOLDER", help="Write the program's text after every pass.")
@click.option("--bisect", "find_culprit", is_flag=True, help="Find the first pass whose result is wrong.")
@click.option("--text", is_flag=True, help="Print the resulting program instead of the table.")
@json_option
@quiet_option
def command(
    model: str,
    output: str | None,
    passes: str | None,
    dims: tuple[str, ...],
    inputs: str | None,
    verify_when: str,
    draws: int | None,
    seed: int | None,
    print_after: tuple[str, ...],
    dump: str | None,
    find_culprit: bool,
    text: bool,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Rewrite MODEL (.onnx or .pt2) with passes.

    The result is verified before it is written.  Without -o nothing is written.
    """
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import check_table, console, notes, pass_table
    from graphopt.passmanager.instruments import Dump, Instrument, PrintProgram, Progress
    from graphopt.passmanager.manager import When
    from graphopt.passmanager.registry import get_pass
    from graphopt.workflows.optimize import DEFAULT_PASSES, optimize

    if text and json_path == "-":
        raise UsageError("--text and --json cannot both go to stdout")
    passes = DEFAULT_PASSES if passes is None else passes
    if find_culprit:
        if output or text or json_path or dump:
            raise UsageError("--bisect goes with none of --output, --text, --json, --dump")
        _bisect(model, passes, parse_dims(dims), inputs, draws or 2, seed or 0)
        return
    for name in print_after:
        get_pass(name)
    instruments: list[Instrument] = [] if quiet else [Progress()]
    if print_after:
        instruments.append(PrintProgram(print_after))
    if dump:
        instruments.append(Dump(dump))
    result = optimize(
        model,
        passes,
        output=output,
        dims=parse_dims(dims) or None,
        calibration=inputs,
        verify_when=cast(When, verify_when),
        draws=draws or 2,
        seed=seed or 0,
        instruments=instruments,
    )
    if result.passes.original.notes and not quiet:
        print(notes(result.passes.original.notes), file=sys.stderr)
    if json_path:
        write_json(result.to_dict(), json_path)
    if json_path == "-":
        return
    if text:
        click.echo(result.passes.program.text(layers=True), nl=False)
        return
    out = console()
    out.print(pass_table(result.passes.records))
    checks: dict[str, Any] = {
        r.spec: r.verification for r in result.passes.records if r.verification is not None
    }
    checks.update(result.checks)
    if checks:
        out.print(check_table(checks))
    if result.output:
        out.print(f"model: {result.output}", soft_wrap=True)


def _bisect(model: str, passes: str, dims: dict[str, Any], inputs: str | None, draws: int, seed: int) -> None:
    from graphopt.errors import PassError
    from graphopt.passmanager.bisect import bisect
    from graphopt.passmanager.registry import build_pipeline
    from graphopt.workflows.loading import load
    from graphopt.workflows.optimize import read_batches

    pipeline = build_pipeline(passes)
    program = load(model, dims=dims or None)
    found = bisect(program, pipeline, calibration=read_batches(inputs, program), draws=draws, seed=seed)
    if found.culprit is None:
        click.echo(f"every pass is right ({found.checks} checks)")
        return
    click.echo(f"first wrong result: pass {found.index + 1}, {found.culprit} ({found.checks} checks)")
    raise found.error or PassError(f"pass {found.culprit} is wrong")
