"""The ``graphopt`` command: its verbs, and how every run ends.

stdout carries the result and nothing else; progress, notes and errors go to stderr.  The exit
status is documented in :mod:`graphopt.errors`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from graphopt.errors import EXIT_INTERRUPTED, GraphoptError, did_you_mean
from graphopt.files import write_atomically

COMMANDS = {
    "compile": "Compile a model into a verified artifact.",
    "opt": "Rewrite a model with passes and verify the result.",
    "inspect": "Show what is in a model or an artifact.",
    "compare": "Check that two models compute the same.",
    "run": "Run an artifact or a model on data from a file.",
    "bench": "Measure latency, also against other engines.",
    "passes": "List passes and their options.",
    "targets": "List targets and what works here.",
    "doctor": "Check this installation.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"graphopt.cli.{cmd_name}_command").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"there is no command {args[0]!r}" + (f"; {hint}" if hint else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The summaries stand here so that help does not import every command.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="graphopt")
def cli() -> None:
    """Rewrites neural networks and proves that it did no harm.

    Exit status: 0 ok, 1 internal error, 2 usage, 3 input, 4 pass, 5 verification, 6 target,
    130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with a documented exit status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit status."""
    _quiet_libraries()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(args=arguments, prog_name="graphopt", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        click.echo(f"error[GO-2000]: {error.format_message()}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"  hint:  '{error.ctx.command_path} --help' explains it", err=True)
        return 2
    except GraphoptError as error:
        click.echo(error.render(), err=True)
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was written", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`graphopt inspect m.onnx | head`): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        click.echo("error[GO-1000]: out of memory", err=True)
        return 1
    except Exception as error:
        return _internal_error(error, arguments)
    return 0


def _internal_error(error: Exception, arguments: Sequence[str]) -> int:
    """A defect of ours: the traceback goes to a file, the user gets one line and its path."""
    import platform
    import shlex
    import tempfile
    import traceback
    from importlib.metadata import version

    with tempfile.NamedTemporaryFile(
        "w", prefix="graphopt-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"command: graphopt {shlex.join(arguments)}\n")
        file.write(
            f"graphopt {version('graphopt')}, python {platform.python_version()}, {platform.platform()}\n\n"
        )
        file.write("".join(traceback.format_exception(error)))
    click.echo(f"error[GO-1000]: internal error: {type(error).__name__}: {error}", err=True)
    click.echo(f"  hint:  this is a defect of graphopt; details are in {file.name}", err=True)
    return 1


def _quiet_libraries() -> None:
    """Warnings of libraries are about their code, not the user's model."""
    import logging
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def write_json(data: Any, destination: str) -> None:
    """Writes a JSON report to a file in one step, or to stdout for ``-``."""
    import json

    text = json.dumps(data, indent=2, allow_nan=False, default=str) + "\n"
    if destination == "-":
        click.echo(text, nl=False)
        return
    write_atomically(destination, text.encode())
