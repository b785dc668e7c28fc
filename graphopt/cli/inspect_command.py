"""``graphopt inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from graphopt.cli.options import ExistingFile, json_option
from graphopt.errors import UsageError


@click.command(name="inspect")
@click.argument("model", metavar="MODEL", type=ExistingFile())
@click.option("--text", is_flag=True, help="Print the whole program.")
@click.option("--source", is_flag=True, help="Print the code of an artifact's kernels.")
@click.option(
    "--why", metavar="PASS", help="List where the pass's rules fit, and where and why they nearly did."
)
@json_option
def command(model: str, text: bool, source: bool, why: str | None, json_path: str | None) -> None:
    """Show what is in MODEL (.onnx, .pt2 or .so)."""
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, gpu_table, notes, spill_warnings, table
    from graphopt.workflows.inspect import inspect
    from graphopt.workflows.loading import load

    if text + source + bool(why or json_path) > 1:
        raise UsageError("--text, --source and --json with --why are three things; ask for one")
    is_artifact = Path(model).suffix in (".so", ".tar")
    if source and not is_artifact:
        raise UsageError(f"--source is for artifacts, and {model!r} is none", hint="compile it first")
    if text and is_artifact:
        raise UsageError(f"--text is for models, and {model!r} is an artifact", hint="use --source")
    if source:
        from graphopt.codegen import load_artifact

        click.echo(load_artifact(model).source())
        return
    if text:
        click.echo(load(model).text(layers=True), nl=False)
        return
    found = inspect(model, why=why)
    if json_path:
        write_json(found.to_dict(), json_path)
    if json_path == "-":
        return
    out = console()
    rows = [("input", s) for s in found.inputs] + [("output", s) for s in found.outputs]
    rows += [("dimension", f"{name} in {span}") for name, span in found.dims.items()]
    if found.kind == "program":
        rows.append(("weights", f"{found.parameters:,} elements, {found.bytes / 1e6:.1f} MB"))
    else:
        rows.append(("file", f"{found.bytes / 1e6:.1f} MB for {found.details['target']}"))
    out.print(table(f"{found.kind} {model}", ("", ""), rows))
    total = sum(found.operators.values())
    counted = [(name, str(n)) for name, n in found.operators.items()]
    heading = f"{total} {'operators' if found.kind == 'program' else 'kernels'}"
    out.print(table(heading, ("operator" if found.kind == "program" else "schedule", "count"), counted))
    if is_artifact and found.details["gpu_kernels"]:
        from graphopt.codegen.gpu_report.kernels import GpuKernel

        kernels = [GpuKernel.from_dict(k) for k in found.details["gpu_kernels"]]
        out.print(gpu_table(kernels))
        for warning in spill_warnings(kernels):
            click.echo(warning, err=True)
    if why:
        places = [
            (w["rule"], "fits" if w["fits"] else "no", w["node"], w["layer"] or "", w["reason"])
            for w in sorted(found.why, key=lambda w: (not w["fits"], -w["matched"]))
        ]
        out.print(table(f"why {why}", ("rule", "fits", "node", "layer", "reason"), places))
    if found.notes:
        click.echo(notes(found.notes), err=True)
