"""The textual form of passes: ``cleanup,prune{sparsity=0.5,norm=l2}``.

Grammar::

    pipeline = pass { "," pass }
    pass     = name [ "{" [ option { "," option } ] "}" ]
    option   = name "=" value
    value    = integer | float | "true" | "false" | "none" | string | word | "[" [ value { "," value } ] "]"

Names are kebab-case; strings are in double quotes with JSON's escapes, and may stay bare where they
are a single word.  Printing and reading back gives the same pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphopt.errors import UsageError

_TOKEN = re.compile(r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<punct>[{}\[\],=])|(?P<word>[^\s{}\[\],="]+))')
_WORD = re.compile(r"[A-Za-z_][\w.\-/]*\Z")
_INTEGER = re.compile(r"[+-]?\d+\Z")
_NAMED = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class PassSpec:
    """One pass by name, with the options that differ from their defaults (snake_case keys)."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        inner = ",".join(f"{k.replace('_', '-')}={format_value(v)}" for k, v in self.options.items())
        return f"{self.name}{{{inner}}}"


def format_pipeline(specs: Sequence[PassSpec]) -> str:
    return ",".join(map(str, specs))


def format_value(value: Any) -> str:
    """A value as the grammar writes it.

    Raises:
        TypeError: the value has no textual form.
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        ambiguous = value in _NAMED or not _WORD.match(value) or isinstance(_word(value), float)
        return json.dumps(value) if ambiguous else value
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(format_value, value)) + "]"
    raise TypeError(f"a pass option cannot be a {type(value).__name__}: {value!r}")


def parse_pipeline(text: str) -> list[PassSpec]:
    """Reads a pipeline; an empty text is the one without passes.

    Raises:
        UsageError: GO-2004, with the column where the text stops making sense.
    """
    return _Parser(text).pipeline() if text.strip() else []


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text.rstrip()):
            found = _TOKEN.match(text, position)
            if not found:
                raise self._error(f"unexpected {text[position]!r}", position)
            kind = str(found.lastgroup)
            self.tokens.append((kind, found.group(kind), found.start(kind)))
            position = found.end()
        self.at = 0

    def _error(self, problem: str, column: int | None = None) -> UsageError:
        if column is None:
            column = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text)
        return UsageError(
            f"malformed pass specification, column {column + 1}: {problem}\n"
            f"    {self.text}\n    {' ' * column}^",
            code="GO-2004",
            hint="for example: cleanup,prune{sparsity=0.5}",
        )

    def _peek(self) -> str | None:
        if self.at == len(self.tokens):
            return None
        kind, text, _ = self.tokens[self.at]
        return text if kind == "punct" else None

    def _expect(self, punct: str) -> None:
        if self._peek() != punct:
            raise self._error(f"expected {punct!r}")
        self.at += 1

    def _name(self, what: str) -> str:
        if self.at == len(self.tokens) or self.tokens[self.at][0] != "word":
            raise self._error(f"expected the name of {what}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def pipeline(self) -> list[PassSpec]:
        specs = [self._pass()]
        while self.at < len(self.tokens):
            self._expect(",")
            specs.append(self._pass())
        return specs

    def _pass(self) -> PassSpec:
        name = self._name("a pass")
        options: dict[str, Any] = {}
        if self._peek() == "{":
            self.at += 1
            while self._peek() != "}":
                if options:
                    self._expect(",")
                key = self._name("an option").replace("-", "_")
                if key in options:
                    raise self._error(f"option {key!r} is given twice")
                self._expect("=")
                options[key] = self._value()
            self.at += 1
        return PassSpec(name, options)

    def _value(self) -> Any:
        if self._peek() == "[":
            self.at += 1
            items: list[Any] = []
            while self._peek() != "]":
                if items:
                    self._expect(",")
                items.append(self._value())
            self.at += 1
            return tuple(items)
        if self.at == len(self.tokens) or self.tokens[self.at][0] == "punct":
            raise self._error("expected a value")
        kind, text, column = self.tokens[self.at]
        self.at += 1
        if kind == "string":
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                raise self._error("malformed string", column) from None
        return _word(text)


def _word(text: str) -> Any:
    if text in _NAMED:
        return _NAMED[text]
    if _INTEGER.match(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
