"""``graphopt passes``."""

from __future__ import annotations

import click

from graphopt.cli.options import json_option


@click.command(name="passes")
@click.argument("name", required=False, metavar="[PASS]")
@json_option
def command(name: str | None, json_path: str | None) -> None:
    """List passes, or explain one with its options and parts."""
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, table
    from graphopt.workflows.passes import describe_pass, list_passes

    found = [describe_pass(name)] if name else list_passes()
    if json_path:
        write_json({"schema": "graphopt.passes/1", "passes": [p.to_dict() for p in found]}, json_path)
    if json_path == "-":
        return
    out = console()
    if name is None:
        rows = [(p.name, p.contract, p.summary or f"unusable: {p.problem}") for p in found]
        out.print(table("passes", ("pass", "contract", "what it does"), rows))
        return
    (only,) = found
    click.echo(only.documentation or only.name)
    kept = only.preserves_training
    training = kept if isinstance(kept, str) else "yes" if kept else "no"
    click.echo(f"\ncontract: {only.contract}; preserves training: {training}")
    if only.options:
        rows = [(o.name, o.type, o.default if o.default is not None else "required") for o in only.options]
        out.print(table("options", ("option", "type", "default"), rows))
    if only.parts:
        out.print(table("parts", ("pass",), [(p,) for p in only.parts]))
