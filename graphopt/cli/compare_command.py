"""``graphopt compare``."""

from __future__ import annotations

import click

from graphopt.cli.options import (
    ExistingFile,
    dims_option,
    inputs_option,
    json_option,
    parse_dims,
    verification_options,
)


@click.command(name="compare")
@click.argument("reference", metavar="A", type=ExistingFile())
@click.argument("candidate", metavar="B", type=ExistingFile())
@dims_option
@inputs_option
@verification_options
@json_option
def command(
    reference: str,
    candidate: str,
    dims: tuple[str, ...],
    inputs: str | None,
    draws: int | None,
    seed: int | None,
    json_path: str | None,
) -> None:
    """Check that B computes what A does.

    A (.onnx or .pt2) is the reference and runs in float64.  B is an .onnx file, run by
    onnxruntime, a .pt2 file or an artifact.  Exit status 5 when they differ.
    """
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import check_table, console
    from graphopt.workflows.compare import compare

    report = compare(
        reference, candidate, dims=parse_dims(dims) or None, inputs=inputs, draws=draws or 2, seed=seed or 0
    )
    if json_path:
        write_json({"schema": "graphopt.compare/1", **report.to_dict()}, json_path)
    if json_path != "-":
        console().print(check_table({candidate: report}))
    report.raise_if_failed()
