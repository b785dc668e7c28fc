"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from graphopt.errors import UsageError

Function = Callable[..., Any]

json_option = click.option(
    "--json",
    "json_path",
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
    "--inputs", "inputs", metavar="FILE", help="Your own data (.npz or .npy): verification runs on it too."
)


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
        UsageError: an entry has another form.
    """
    dims: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        low, colon, high = value.partition(":")
        try:
            if not (name and equals):
                raise ValueError
            dims[name] = (int(low), int(high)) if colon else int(low)
        except ValueError:
            raise UsageError(
                f"--dim takes NAME=SIZE or NAME=MIN:MAX, not {item!r}",
                hint="for example --dim height=32:1024",
            ) from None
    return dims
