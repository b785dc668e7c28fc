"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from graphopt.errors import UsageError
from graphopt.files import check_output, check_output_folder, existing_file

Function = Callable[..., Any]


class ExistingFile(click.ParamType):
    """A file to read; that it is there is checked before anything is imported."""

    name = "file"

    def __init__(self, *, folder: bool = False) -> None:
        self.folder = folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not (self.folder and Path(value).is_dir()):
            existing_file(value)
        return str(value)


class NewFile(click.ParamType):
    """A file to write; that it can be written is checked before the work."""

    name = "file"

    def __init__(self, suffixes: Sequence[str] = (), *, stdout: bool = False) -> None:
        self.suffixes = suffixes
        self.stdout = stdout

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if self.stdout and (value == "-" or (Path(value).exists() and _is_stream(Path(value)))):
            return str(value)
        return str(check_output(value, self.suffixes))


class NewArtifact(click.ParamType):
    """What ``compile`` writes: a file, or (a name without a suffix) a folder of source."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if Path(value).suffix:
            return str(check_output(value, (".so", ".tar")))
        return str(check_output_folder(value))


def _is_stream(path: Path) -> bool:
    """``/dev/null``, a pipe: written to as they are."""
    return not path.is_file() and not path.is_dir()


json_option = click.option(
    "--json",
    "json_path",
    type=NewFile(stdout=True),
    metavar="FILE",
    help="Write a JSON report; '-' is stdout, and nothing else then goes there.",
)
dims_option = click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZE|MIN:MAX",
    help="Fix or restrict a dynamic dimension of an ONNX model. May be repeated.",
)
inputs_option = click.option(
    "--inputs",
    "inputs",
    type=ExistingFile(folder=True),
    metavar="FILE",
    help="Your own data (.npz, .npy, or a folder of them): verification runs on it too.",
)
database_option = click.option(
    "--database",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Where the records of tuning are. Default: in the user's cache.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on stderr.")


def verification_options(function: Function) -> Function:
    """``--draws``, ``--seed``."""
    decorated = click.option(
        "--draws", type=click.IntRange(min=1), help="Random inputs to verify on. Default: 2."
    )(function)
    return click.option("--seed", type=int, help="Seed of the random inputs. Default: 0.")(decorated)


def passes_option(default: str) -> Callable[[Function], Function]:
    """``--passes``."""
    return functools.partial(
        click.option(
            "--passes",
            default=None,
            metavar="SPEC",
            help=f"Passes with their options, as in 'cleanup,prune{{sparsity=0.5}}'. Default: {default}.",
        )
    )


def parse_dims(given: tuple[str, ...]) -> dict[str, Any]:
    """``("batch=1", "height=32:1024")`` -> ``{"batch": 1, "height": (32, 1024)}``.

    Raises:
        UsageError: an entry has another form, or a dimension is given twice.
    """
    dims: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        low, colon, high = value.partition(":")
        try:
            if not (name and equals):
                raise ValueError
            size = (int(low), int(high)) if colon else int(low)
        except ValueError:
            raise UsageError(
                f"--dim takes NAME=SIZE or NAME=MIN:MAX, not {item!r}",
                hint="for example --dim height=32:1024",
            ) from None
        if name in dims:
            raise UsageError(f"--dim {name} is given twice")
        least, most = size if isinstance(size, tuple) else (size, size)
        if least < 0 or most < least:
            raise UsageError(f"--dim {item}: sizes are not negative, and MIN is at most MAX")
        dims[name] = size
    return dims


__all__ = [
    "ExistingFile",
    "NewFile",
    "database_option",
    "dims_option",
    "inputs_option",
    "json_option",
    "parse_dims",
    "passes_option",
    "quiet_option",
    "verification_options",
]
