"""The entries: what is known of each issue."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphopt.fuzz.findings import Signature

COMPONENTS = ("tvm", "torch", "torch.onnx", "onnxruntime", "onnx")
"""Whose bugs they are, in the order of reports."""


@dataclass(frozen=True)
class KnownIssue:
    """One root cause in a library that graphopt builds on.

    Attributes:
        id: name of its folder, which begins with the component's.
        component: one of :data:`COMPONENTS`.
        versions: of the packages in which it was seen, by their names on PyPI.
        sentence: what is wrong.
        workaround: what graphopt does about it.
        place: ``file:function`` of that, from the root of the repository; None where it refuses or where
            nothing can be done.
        signatures: regular expressions; a finding whose signature one of them matches as a whole is this
            issue and no new one.
        folder: where its script is.
    """

    id: str
    component: str
    versions: Mapping[str, str]
    sentence: str
    workaround: str
    place: str | None
    signatures: tuple[str, ...]
    folder: Path

    @property
    def script(self) -> Path:
        """The stand-alone script."""
        return self.folder / "repro.py"

    def explains(self, signature: Signature) -> bool:
        """Whether a finding is this issue."""
        return any(re.fullmatch(pattern, str(signature)) for pattern in self.signatures)


@functools.cache
def known_issues() -> tuple[KnownIssue, ...]:
    """All issues, by component and id.

    Raises:
        ValueError: an entry is malformed.
    """
    found = [_read(path) for path in Path(__file__).parent.glob("*/issue.toml")]
    return tuple(sorted(found, key=lambda issue: (COMPONENTS.index(issue.component), issue.id)))


def explanation(signature: Signature) -> KnownIssue | None:
    """The issue that a finding is, if it is known."""
    return next((issue for issue in known_issues() if issue.explains(signature)), None)


def _read(path: Path) -> KnownIssue:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        issue = KnownIssue(
            path.parent.name,
            data.pop("component"),
            data.pop("versions"),
            data.pop("sentence"),
            data.pop("workaround"),
            data.pop("place", None),
            tuple(data.pop("signatures", ())),
            path.parent,
        )
    except KeyError as error:
        raise ValueError(f"{path} has no {error}") from None
    if data:
        raise ValueError(f"{path} has unknown keys: {', '.join(data)}")
    if issue.component not in COMPONENTS or not issue.id.startswith(issue.component.replace(".", "-") + "-"):
        raise ValueError(f"{path}: its name does not begin with its component, {issue.component!r}")
    return issue
