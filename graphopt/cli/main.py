"""The ``graphopt`` command: its verbs, and how every run ends.

stdout carries the result and nothing else; progress, notes and errors go to stderr.  The exit
status is documented in :mod:`graphopt.errors`.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from graphopt.errors import EXIT_INTERRUPTED, EXIT_PIPE, GraphoptError, InternalError, did_you_mean

COMMANDS = {
    "compile": "Compile a model into a verified artifact.",
    "opt": "Rewrite a model with passes and verify the result.",
    "inspect": "Show what is in a model or an artifact.",
    "compare": "Check that two models compute the same.",
    "run": "Run an artifact or a model on data from a file.",
    "bench": "Measure latency, also against other engines.",
    "fuzz": "Search for wrong passes and wrong code with generated graphs.",
    "reduce": "Make a finding of the fuzzer smaller, or check whether it is still there.",
    "tune": "Find faster schedules for a model's kernels by measuring.",
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
    7 the fuzzer found a problem, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ends the process with a documented exit status."""
    if "_GRAPHOPT_COMPLETE" in os.environ:  # the shell asks for completions
        cli.main(prog_name="graphopt")
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit status."""
    _quiet_libraries()
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    with _interrupts() as seen:
        try:
            # Not cli.main(): it turns a broken pipe and an interrupt into exit statuses of its own.
            with cli.make_context("graphopt", list(arguments)) as context:
                cli.invoke(context)
            sys.stdout.flush()
        except BaseException as error:
            # Libraries in between may have turned the interrupt into an error of theirs.
            ended = isinstance(error, click.exceptions.Exit)  # by a command that took care of it
            return _status(KeyboardInterrupt() if seen and not ended else error, arguments)
    return 0


def _status(error: BaseException, arguments: Sequence[str]) -> int:
    """Says on stderr what happened; the exit status for it."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            click.echo(f"error[GO-2000]: {error.format_message()}", err=True)
            if isinstance(error, click.UsageError) and error.ctx is not None:
                click.echo(f"  hint:  '{error.ctx.command_path} --help' explains it", err=True)
            return 2
        case InternalError():
            return _internal_error(error.message, error, arguments, error.code)
        case GraphoptError():
            click.echo(error.render(), err=True)
            return error.exit_status
        case KeyboardInterrupt() | click.Abort():
            click.echo("interrupted; nothing was written", err=True)
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            # The reader of our output went away (`graphopt inspect m.onnx | head`): nothing to tell,
            # but not 0 either, since the rest was not done.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            return EXIT_PIPE
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"error[GO-3001]: {where}{error.strerror}", err=True)
            return 3
        case MemoryError():
            click.echo("error[GO-1000]: out of memory", err=True)
            return 1
    return _internal_error(f"internal error: {type(error).__name__}: {error}", error, arguments)


def _internal_error(
    message: str, error: BaseException, arguments: Sequence[str], code: str = "GO-1000"
) -> int:
    """A defect of ours: the traceback goes to a file, the user gets one line and its path."""
    import platform
    import shlex
    import tempfile
    import traceback
    from importlib.metadata import version

    lines = message.strip().splitlines()
    click.echo(f"error[{code}]: {lines[0] if lines else type(error).__name__}", err=True)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="graphopt-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(f"command: graphopt {shlex.join(arguments)}\n")
            file.write(f"graphopt {version('graphopt')}, python {platform.python_version()}, ")
            file.write(f"{platform.platform()}\n\n")
            file.write("".join(traceback.format_exception(error)))
        where = f"details are in {file.name}"
    except OSError as problem:
        where = f"its details could not be written ({problem.strerror})"
    click.echo(f"  hint:  this is a defect of graphopt; {where}", err=True)
    return 1


@contextmanager
def _interrupts() -> Iterator[list[Any]]:
    """Interrupts raise KeyboardInterrupt, as always, and are remembered."""
    seen: list[Any] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen  # whoever runs us has plans of their own, or we are in a thread
        return
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _quiet_libraries() -> None:
    """Warnings of libraries are about their code, not the user's model."""
    import logging
    import warnings

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
