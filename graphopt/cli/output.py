"""What a command leaves: its report as JSON."""

from __future__ import annotations

import math
from typing import Any

import click

from graphopt.files import write_atomically


def write_json(data: Any, destination: str) -> None:
    """Writes a JSON report to a file in one step, or to stdout for ``-``.

    JSON has no NaN and no infinities: they become null.
    """
    import json

    text = json.dumps(_finite(data), indent=2, allow_nan=False, default=str) + "\n"
    if destination == "-":
        click.echo(text, nl=False)
    else:
        write_atomically(destination, text.encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
