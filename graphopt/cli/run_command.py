"""``graphopt run``."""

from __future__ import annotations

import click

from graphopt.cli.options import ExistingFile, NewFile


@click.command(name="run")
@click.argument("model", metavar="MODEL", type=ExistingFile())
@click.option(
    "--input",
    "inputs",
    type=ExistingFile(),
    required=True,
    metavar="FILE",
    help="Inputs by name (.npz).",
)
@click.option("--output", type=NewFile((".npz",)), metavar="FILE", help="Where the outputs go (.npz).")
def command(model: str, inputs: str, output: str | None) -> None:
    """Run MODEL: an artifact (.so), or an .onnx or .pt2 file, eagerly."""
    from graphopt.cli.tables import console, table
    from graphopt.workflows.run import run

    results = run(model, inputs, output=output)
    rows = []
    for name, array in results.items():
        span = f"{array.min():.6g} .. {array.max():.6g}" if array.size else "empty"
        rows.append((name, str(array.dtype), str(list(array.shape)), span))
    out = console()
    out.print(table("outputs", ("name", "dtype", "shape", "range"), rows))
    if output:
        out.print(f"outputs: {output}", soft_wrap=True)
