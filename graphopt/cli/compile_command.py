"""``graphopt compile``."""

from __future__ import annotations

import sys

import click

from graphopt.cli.options import (
    ExistingFile,
    NewArtifact,
    NewFile,
    database_option,
    dims_option,
    inputs_option,
    json_option,
    parse_dims,
    passes_option,
    quiet_option,
    verification_options,
)
from graphopt.errors import UsageError


@click.command(name="compile")
@click.argument("model", metavar="MODEL", type=ExistingFile())
@click.option(
    "-o",
    "--output",
    type=NewArtifact(),
    metavar="PATH",
    help="The artifact to write: a file (.so), for target c a new folder. Without it nothing is written.",
)
@click.option("--target", default=None, metavar="NAME", help="See 'graphopt targets'. Default: cpu.")
@passes_option("cleanup")
@dims_option
@inputs_option
@click.option(
    "--verify",
    "verify_when",
    type=click.Choice(["each", "final", "emulate", "off"]),
    default=None,
    help="Verify after each pass, the artifact only (default), the artifact and every GPU kernel of it on "
    "the CPU, or not at all.",
)
@verification_options
@click.option(
    "--recipe",
    type=ExistingFile(),
    metavar="FILE",
    help="A TOML recipe; options on the command line go first.",
)
@click.option(
    "--save-recipe",
    type=NewFile(stdout=True),
    metavar="FILE",
    help="Write the resolved recipe ('-' is stdout).",
)
@click.option(
    "--emit",
    type=click.Choice(["source"]),
    default=None,
    help="Also write the kernels' source beside the artifact: .cu for GPUs, else .tir (TensorIR).",
)
@click.option("--no-cache", is_flag=True, help="Compile even if the user's cache has the result.")
@click.option("--no-tuned", is_flag=True, help="Default schedules, even where tuning found faster ones.")
@database_option
@click.option(
    "--no-fast-algorithms",
    is_flag=True,
    help="No Winograd convolutions, no Strassen products: slower on CPUs, with smaller rounding errors.",
)
@click.option("--dry-run", is_flag=True, help="Resolve options and stop.")
@json_option
@quiet_option
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
    emit: str | None,
    no_cache: bool,
    no_tuned: bool,
    database: str | None,
    no_fast_algorithms: bool,
    dry_run: bool,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Compile MODEL (.onnx or .pt2) into an artifact.

    The artifact is verified before it is written: onnxruntime runs an ONNX file itself, and the
    compiled code must compute the same.  If it does not, no file is written and the exit status
    is 5.
    """
    if no_tuned and database:
        raise UsageError("--no-tuned and --database exclude each other")
    if "-" == save_recipe == json_path:
        raise UsageError("--json and --save-recipe cannot both go to stdout")
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
    from graphopt.codegen import find_target

    find_target(resolved.target)
    if save_recipe:
        resolved.save(save_recipe)
    if dry_run:
        return
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import check_table, console, gpu_table, notes, pass_table, spill_warnings, table
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
        cache=not no_cache,
        tuned=False if no_tuned else database or True,
        fast_algorithms=not no_fast_algorithms,
        emit_source=emit == "source",
    )
    if result.passes.original.notes and not quiet:
        print(notes(result.passes.original.notes), file=sys.stderr)
    for warning in result.artifact.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    if json_path:
        write_json(result.to_dict(), json_path)
    if json_path == "-":
        return
    out = console()
    out.print(pass_table(result.passes.records))
    if result.checks:
        out.print(check_table(result.checks))
    if result.kernels:
        from graphopt.codegen.emulate.module import COLUMNS, to_rows

        out.print(table("GPU kernels on the CPU", COLUMNS, to_rows(result.kernels)))
    stages = [(name, f"{seconds:.2f}") for name, seconds in result.seconds.items()]
    out.print(table("stages", ("stage", "seconds"), stages))
    target_name = result.artifact.target.name
    kernels = result.artifact.gpu_kernels()
    if kernels:
        out.print(gpu_table(kernels))
    tuned = f", {len(result.artifact.tuned())} of them tuned" if result.artifact.tuned() else ""
    faster = {"Winograd": result.artifact.winograd(), "Strassen": result.artifact.strassen()}
    methods = "".join(f", {len(found)} by {name}'s method" for name, found in faster.items() if found)
    out.print(f"{len(result.artifact.kernels())} kernels for {target_name}{tuned}{methods}")
    for warning in spill_warnings(kernels):
        print(warning, file=sys.stderr)
    if result.unverified:
        out.print(f"not verified: {result.unverified}")
    if result.output:
        files = [result.output] if result.output.is_file() else list(result.output.iterdir())
        size = sum(f.stat().st_size for f in files) / 1e6
        out.print(f"artifact: {result.output} ({size:.1f} MB)", soft_wrap=True)
    if result.source:
        out.print(f"source: {result.source}", soft_wrap=True)
