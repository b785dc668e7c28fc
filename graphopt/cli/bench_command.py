"""``graphopt bench``."""

from __future__ import annotations

import click

from graphopt.cli.options import ExistingFile, dims_option, json_option, parse_dims


@click.command(name="bench")
@click.argument("artifact", metavar="ARTIFACT", type=ExistingFile())
@click.option(
    "--against",
    multiple=True,
    metavar="ENGINE",
    help="onnxruntime, openvino, torch or torch-compile. May be repeated.",
)
@click.option(
    "--model",
    type=ExistingFile(),
    metavar="FILE",
    help="The original model. Default: the file that was compiled.",
)
@click.option(
    "--input",
    "inputs",
    type=ExistingFile(),
    metavar="FILE",
    help="Inputs by name (.npz). Default: drawn ones.",
)
@dims_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads an engine. Default: all cores.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1), help="Turns an engine.")
@click.option(
    "--seconds", default=0.25, show_default=True, type=click.FloatRange(min=0), help="Length of a turn."
)
@json_option
def command(
    artifact: str,
    against: tuple[str, ...],
    model: str | None,
    inputs: str | None,
    dims: tuple[str, ...],
    threads: int | None,
    rounds: int,
    seconds: float,
    json_path: str | None,
) -> None:
    """Measure the latency of ARTIFACT (.so).

    Each engine runs in its own process, and the processes take turns.
    """
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, table
    from graphopt.errors import UsageError
    from graphopt.workflows.bench import bench

    sizes = parse_dims(dims)
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise UsageError(f"--dim {name} must be one size here, not a range")
    result = bench(
        artifact,
        against=against,
        model=model,
        inputs=inputs,
        sizes=sizes,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
    )
    if json_path:
        write_json(result.to_dict(), json_path)
    if json_path == "-":
        return
    rows = [
        (t.engine, f"{t.median:.3f}", f"{t.best:.3f}", f"{t.worst:.3f}", f"{t.ratio:.3f}", str(t.runs))
        for t in result.times
    ]
    shapes = ", ".join(f"{n} {s}" for n, s in result.shapes.items())
    out = console()
    columns = ("engine", "median ms", "min", "max", "time / ours", "runs")
    out.print(table(f"{shapes}, {result.threads} threads", columns, rows))
