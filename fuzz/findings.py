"""What the fuzzer found: a problem, with a signature by which two findings of one cause are told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.fuzz.cases import FuzzCase

_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "PTR"),
    (re.compile(r"(/[\w.\-]+)+/?"), "PATH"),
    (re.compile(r"(?<![a-zA-Z])[-+]?\d+(\.\d*)?([eE][-+]?\d+)?"), "N"),
    (re.compile(r"\b([A-Za-z]\w*?)_\d+\b"), r"\1"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, order=True)
class Signature:
    """What stays of a problem when its graph is made smaller.

    Attributes:
        component: whose code is at fault: the pass, ``codegen``, ``export``, ``onnxruntime``, ``torch``, …
        oracle: the property that does not hold, or the stage that failed.
        kind: ``exception`` | ``value`` | ``shape`` | ``dtype`` | ``nan`` | ``crash`` | ``timeout`` | a
            word of the oracle's own.
        detail: the operator of the first wrong node, or the normalised message.
    """

    component: str
    oracle: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.component, self.oracle, self.kind, self.detail) if part)


@dataclass(frozen=True)
class Problem:
    """One property that one case violates.

    Attributes:
        signature: see :class:`Signature`.
        message: for people.
        facts: measured error, tolerance, node, … for the report; JSON-able.
    """

    signature: Signature
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A problem and the case that shows it."""

    case: FuzzCase
    problem: Problem

    @property
    def signature(self) -> Signature:
        return self.problem.signature


def normalised(message: str, limit: int = 120) -> str:
    """A message without what differs from run to run: addresses, paths, numbers, numbered names."""
    text = message.strip().splitlines()[0] if message.strip() else ""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text.strip()[:limit]
