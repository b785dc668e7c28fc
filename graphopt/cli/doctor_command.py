"""``graphopt doctor``."""

from __future__ import annotations

import click

from graphopt.cli.options import json_option


@click.command(name="doctor")
@json_option
def command(json_path: str | None) -> None:
    """Check this installation: packages, code generation, compilers, targets.

    Exit status 6 when something that graphopt needs does not work.
    """
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, table
    from graphopt.errors import TargetError
    from graphopt.workflows.doctor import doctor, healthy, to_dict

    findings = doctor()
    if json_path:
        write_json(to_dict(findings), json_path)
    if json_path != "-":
        words = {True: "ok", False: "BROKEN", None: "absent"}
        rows = [(f.name, words[f.ok], f.detail, f.fix) for f in findings]
        console().print(table("doctor", ("what", "state", "detail", "to mend it"), rows))
    if not healthy(findings):
        broken = ", ".join(f.name for f in findings if f.ok is False)
        raise TargetError(f"this installation is broken: {broken}", hint="the table says how to mend it")
