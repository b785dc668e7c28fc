"""``graphopt targets``."""

from __future__ import annotations

import click

from graphopt.cli.options import json_option


@click.command(name="targets")
@json_option
def command(json_path: str | None) -> None:
    """List targets, and what this machine can compile and run."""
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, table
    from graphopt.codegen import list_targets

    found = list_targets()
    if json_path:
        write_json({"schema": "graphopt.targets/1", "targets": [t.__dict__ for t in found]}, json_path)
    if json_path == "-":
        return
    rows = [(t.name, t.description, t.why_not_compiled or "yes", t.why_not_run or "yes") for t in found]
    console().print(table("targets", ("target", "what it is", "compiles here", "runs here"), rows))
    click.echo("any CPU that LLVM knows works too: cpu:NAME, aarch64-NAME; GPUs as cuda:sm_NN")
