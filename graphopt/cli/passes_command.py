"""``graphopt passes``."""

from __future__ import annotations

import click

from graphopt.cli.options import json_option


@click.command(name="passes")
@click.argument("name", required=False, metavar="[PASS]")
@json_option
def command(name: str | None, json_path: str | None) -> None:
    """List passes, or explain one with its options and parts."""
    import dataclasses
    import inspect as python_inspect

    from graphopt.cli.main import write_json
    from graphopt.cli.tables import console, table
    from graphopt.passmanager.base import CompositePass
    from graphopt.passmanager.registry import get_pass, pass_names
    from graphopt.passmanager.spec import format_value

    names = [name] if name else pass_names()
    found = []
    for each in names:
        cls = get_pass(each)
        training = cls.preserves_training
        options = [
            {
                "name": f.name.replace("_", "-"),
                "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", str(f.type)),
                "default": None if f.default is dataclasses.MISSING else format_value(f.default),
            }
            for f in dataclasses.fields(cls)
        ]
        parts: list[str] = []
        if issubclass(cls, CompositePass):
            parts = [str(p) for p in cls().passes()]
        found.append(
            {
                "name": each,
                "description": cls.description(),
                "contract": str(cls.equivalence),
                # Where an option decides, the class has a property.
                "preserves_training": training if isinstance(training, bool) else "depends on the options",
                "changes_signature": cls.changes_signature,
                "options": options,
                "parts": parts,
            }
        )
    if json_path:
        write_json({"schema": "graphopt.passes/1", "passes": found}, json_path)
    if json_path == "-":
        return
    out = console()
    if name is None:
        rows = [(str(f["name"]), str(f["contract"]), str(f["description"])) for f in found]
        out.print(table("passes", ("pass", "contract", "what it does"), rows))
        return
    only = found[0]
    click.echo(python_inspect.cleandoc(get_pass(name).__doc__ or name))
    click.echo(f"\ncontract: {only['contract']}; preserves training: {only['preserves_training']}")
    if only["options"]:
        rows = [(o["name"], o["type"], o["default"] or "required") for o in only["options"]]  # type: ignore[index]
        out.print(table("options", ("option", "type", "default"), rows))
    if only["parts"]:
        out.print(table("parts", ("pass",), [(p,) for p in only["parts"]]))  # type: ignore[misc]
