"""``graphopt compile``."""

from __future__ import annotations

import sys

import click

from graphopt.cli.options import (
    dims_option,
    inputs_option,
    json_option,
    parse_dims,
    passes_option,
    verification_options,
)


@click.command(name="compile")
@click.argument("model", metavar="MODEL")
@click.option(
    "-o", "--output", metavar="FILE", help="The artifact to write (.so). Without it nothing is written."
)
@click.option("--target", default=None, metavar="NAME", help="See 'graphopt targets'. Default: cpu.")
@passes_option("cleanup")
@dims_option
@inputs_option
@click.option(
    "--verify",
    "verify_when",
    type=click.Choice(["each", "final", "off"]),
    default=None,
    help="Verify after each pass, the artifact only (default), or not at all.",
)
@verification_options
@click.option("--recipe", metavar="FILE", help="A TOML recipe; options on the command line go first.")
@click.option("--save-recipe", metavar="FILE", help="Write the resolved recipe ('-' is stdout).")
@click.option("--dry-run", is_flag=True, help="Resolve options and stop.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def command(
    model: str,
    output: str | None,
    target: str | None,
    passes: str | None,
    dims: tuple[str, ...],
    inputs: str | None,
    verify_when: str | None,
    draws: int | None,
    seed: int | None,
    recipe: str | None,
    save_recipe: str | None,
    dry_run: bool,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Compile MODEL (.onnx or .pt2) into an artifact.

    The artifact is verified before it is written: onnxruntime runs an ONNX file itself, and the
    compiled code must compute the same.  If it does not, no file is written and the exit status
    is 5.
    """
    from graphopt.recipe import Recipe

    resolved = Recipe.resolve(
        recipe,
        target=target,
        passes=passes,
        dims=parse_dims(dims) or None,
        verify=verify_when,
        draws=draws,
        seed=seed,
    )
    if save_recipe:
        resolved.save(save_recipe)
    if dry_run:
        return
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import check_table, console, notes, pass_table, table
    from graphopt.passmanager.instruments import Progress
    from graphopt.workflows.compile import compile_model

    result = compile_model(
        model,
        resolved.target,
        passes=resolved.passes,
        output=output,
        dims=resolved.dims,
        calibration=inputs,
        verify_when=resolved.verify,
        draws=resolved.draws,
        seed=resolved.seed,
        instruments=[] if quiet else [Progress()],
    )
    if result.passes.original.notes and not quiet:
        print(notes(result.passes.original.notes), file=sys.stderr)
    if json_path:
        write_json(result.to_dict(), json_path)
    if json_path == "-":
        return
    out = console()
    out.print(pass_table(result.passes.records))
    if result.checks:
        out.print(check_table(result.checks))
    stages = [(name, f"{seconds:.2f}") for name, seconds in result.seconds.items()]
    out.print(table("stages", ("stage", "seconds"), stages))
    target_name = result.artifact.target.name
    out.print(f"{len(result.artifact.kernels())} kernels for {target_name}")
    if result.unverified:
        out.print(f"not verified: {result.unverified}")
    if result.output:
        size = result.output.stat().st_size / 1e6
        out.print(f"artifact: {result.output} ({size:.1f} MB)", soft_wrap=True)
