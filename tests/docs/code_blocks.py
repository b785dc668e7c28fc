"""Finds the code blocks of a Markdown document and runs them.

``python tests/docs/code_blocks.py docs/dialect.md`` runs one document in the current folder, blocks in
order:

* ``python`` blocks share one namespace; warnings that they cause are errors;
* commands of ``console``, ``bash`` and ``sh`` blocks (there every line, in ``console`` the lines after
  ``$``) run in this process if they are ``graphopt …``.  A command whose output is shown to be
  ``error[GO-3001]: …`` must fail with exit status 3 and that code; all others must succeed.

``<!-- no-run: REASON -->``, or ``<!-- no-run: REASON, details -->``, on the line above a block keeps it
from running; REASON is a key of :data:`REASONS`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REASONS = {
    "installs": "changes the machine: installs, downloads, builds an environment",
    "slow": "takes longer than a test may; another test covers it",
    "gpu": "needs a GPU or the CUDA toolchain",
    "fragment": "part of a program that stands elsewhere in the repository",
    "tests": "runs the test suite itself",
}

SHELL = ("console", "bash", "sh")
INERT = ("", "text", "toml", "json", "yaml", "mermaid", "markdown", "makefile", "diff", "c", "cpp")
"""Languages of blocks that are only read."""


class DocumentError(Exception):
    """A block of a document is malformed or failed."""


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        language: the first word after the fence, lower case.
        text: its lines, dedented as the fence is.
        line: number of its first line in the document.
        no_run: the reason why it does not run, or None.
    """

    language: str
    text: str
    line: int
    no_run: str | None = None

    @property
    def runs(self) -> bool:
        return self.no_run is None and (self.language == "python" or self.language in SHELL)


@dataclass(frozen=True)
class Command:
    """One shell command and the output that the document shows below it."""

    words: tuple[str, ...]
    line: int
    shown: str

    @property
    def expected_code(self) -> str | None:
        """The error code that the shown output has."""
        found = re.search(r"error\[(GO-\d{4})\]", self.shown)
        return found[1] if found else None


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a Markdown document.

    Raises:
        DocumentError: a fence is not closed, or a language or a ``no-run`` reason is unknown.
    """
    found: list[Block] = []
    lines = iter(enumerate(document.splitlines(), start=1))
    above = ""
    for number, line in lines:
        opening = re.match(r"( *)(`{3,}|~{3,})\s*([\w+-]*)", line)
        if not opening:
            above = line.strip() or above
            continue
        indent, fence, language = len(opening[1]), opening[2], opening[3].lower()
        if language not in ("python", *SHELL, *INERT):
            raise DocumentError(f"line {number}: code blocks in {language!r} are not known")
        body = []
        for _, inner in lines:
            if inner.strip() == fence:
                break
            body.append(inner[indent:] if not inner[:indent].strip() else inner)
        else:
            raise DocumentError(f"line {number}: the code block is not closed")
        found.append(Block(language, "\n".join(body) + "\n", number + 1, _no_run(above, number)))
        above = ""
    return found


def _no_run(above: str, line: int) -> str | None:
    mark = re.fullmatch(r"<!--\s*no-run:?\s*(\w*)(,.*?)?\s*-->", above)
    if not mark:
        return None
    if mark[1] not in REASONS:
        raise DocumentError(f"line {line}: no-run needs a reason of {', '.join(REASONS)}, not {mark[1]!r}")
    return mark[1]


def commands(block: Block) -> list[Command]:
    """The commands of a shell block; a backslash at the end of a line continues it."""
    found: list[Command] = []
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    for number, line in lines:
        prompted = line.startswith("$ ")
        if block.language == "console" and not prompted:
            if found and line.strip():
                found[-1] = Command(found[-1].words, found[-1].line, found[-1].shown + line + "\n")
            continue
        text = line[2:] if prompted else line
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].removeprefix("> ")
        if words := shlex.split(text, comments=True):
            found.append(Command(tuple(words), number, ""))
    return found


def run(name: str, document: str) -> None:
    """Runs a document's blocks in the current folder.

    Raises:
        DocumentError: a block failed; the message has the document's line.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(document):
        if not block.runs:
            continue
        if block.language == "python":
            _run_python(name, block, namespace)
        else:
            for command in commands(block):
                _run_command(name, command)


def _run_python(name: str, block: Block, namespace: dict[str, Any]) -> None:
    # Blank lines in front make the line numbers of tracebacks those of the document.
    # dont_inherit: this module's own `from __future__` imports are not the document's.
    code = compile("\n" * (block.line - 1) + block.text, name, "exec", dont_inherit=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", module="__main__")
            exec(code, namespace)
    except Exception as error:
        raise DocumentError(f"{name}:{block.line}: {type(error).__name__}: {error}") from error


def _run_command(name: str, command: Command) -> None:
    where = f"{name}:{command.line}"
    if command.words[0] != "graphopt":
        raise DocumentError(
            f"{where}: only graphopt commands run here, not {command.words[0]!r}; mark the block no-run"
        )
    output = io.StringIO()
    with _arguments(command.words), contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        status = _graphopt()
    code = command.expected_code
    expected = int(code[3]) if code else 0
    if status != expected or (code and code not in output.getvalue()):
        raise DocumentError(
            f"{where}: {shlex.join(command.words)} ended with status {status}, expected {expected}"
            f"{f' and {code}' if code else ''}\n{output.getvalue()}"
        )


@contextlib.contextmanager
def _arguments(words: tuple[str, ...]) -> Iterator[None]:
    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before


def _graphopt() -> int:
    from graphopt.cli import main

    try:
        result = main()
    except SystemExit as leaving:
        result = leaving.code
    return result if isinstance(result, int) else int(result is not None)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    text = path.read_text(encoding="utf-8")
    try:
        run(path.name, text)
    except DocumentError as failure:
        sys.exit(str(failure))
