"""Errors that users see, and the codes that document them.

Every error carries a code (``GO-3002``) that ``docs/errors.md`` explains, the exit status that the
command line returns for it, and, where they exist, the graph node and the layer of the user's own
model.  The first digit of a code is its exit status:

====== =============================================================
exit   meaning
====== =============================================================
1      internal error: a defect of graphopt; a reproducer is written
2      usage: an unknown option, pass, target or a malformed spec
3      the model or the data is invalid or not supported
4      a pass failed or broke an invariant of the program
5      verification: results differ, or a budget is exceeded
6      the target or its toolchain is not available here
7      the fuzzer found a problem
130    interrupted
====== =============================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
"""The reader of stdout went away: 128 + SIGPIPE, as every tool in a pipe ends then."""

CODES: dict[str, str] = {
    "GO-1000": "internal error",
    "GO-1001": "compiled code or a converter contradicts the program",
    "GO-2000": "malformed command line or argument",
    "GO-2001": "unknown pass",
    "GO-2002": "unknown or invalid pass option",
    "GO-2003": "unknown target",
    "GO-2004": "malformed pass specification",
    "GO-2005": "malformed recipe",
    "GO-2006": "name registered twice",
    "GO-3000": "model or data cannot be used",
    "GO-3001": "file not found or not readable",
    "GO-3002": "not a model file that graphopt reads",
    "GO-3003": "model file is damaged or incomplete",
    "GO-3004": "external data missing, damaged or outside the model's folder",
    "GO-3005": "operators not supported",
    "GO-3006": "operator used in a way that is not supported",
    "GO-3007": "module cannot be captured",
    "GO-3008": "pickled checkpoint refused",
    "GO-3010": "inputs do not match the signature",
    "GO-3011": "artifact file is damaged or foreign",
    "GO-3012": "file of operator rules is malformed",
    "GO-4000": "pass failed",
    "GO-4001": "pass broke an invariant of the program",
    "GO-4002": "pass requirements not met",
    "GO-5000": "results differ",
    "GO-5001": "budget exceeded",
    "GO-5002": "contract precondition does not hold",
    "GO-5003": "GPU kernel is wrong",
    "GO-6000": "target not available here",
    "GO-6001": "toolchain missing or failed",
    "GO-6002": "artifact does not fit this machine",
    "GO-6003": "Dask cluster not available",
    "GO-7000": "the fuzzer found problems",
}


class GraphoptError(Exception):
    """An error with a documented code, an exit status and a place in the user's model.

    Args:
        message: one sentence that says what is wrong; it may go on with a list over several lines.
        code: a key of :data:`CODES`; its first digit must be the class's exit status.
        node: name of the graph or ONNX node concerned.
        layer: the user's own layer (module path or ONNX node name).
        hint: what the user can do about it.
    """

    exit_status = 1
    default_code = "GO-1000"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        node: str | None = None,
        layer: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.code = code or self.default_code
        if self.code not in CODES or not self.code.startswith(f"GO-{self.exit_status}"):
            raise ValueError(f"{self.code} is not a documented code of {type(self).__name__}")
        self.message = message
        self.node = node
        self.layer = layer
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """The error as the command line prints it."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.node:
            lines.append(f"  node:  {self.node}")
        if self.layer:
            lines.append(f"  layer: {self.layer}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | int | None]:
        """The error as JSON reports carry it."""
        return {
            "code": self.code,
            "exit_status": self.exit_status,
            "message": self.message,
            "node": self.node,
            "layer": self.layer,
            "hint": self.hint,
        }


class InternalError(GraphoptError):
    """A defect of graphopt itself."""


class UsageError(GraphoptError):
    """The request is malformed: an unknown name, option or specification."""

    exit_status = 2
    default_code = "GO-2000"


class InputError(GraphoptError):
    """The user's model or data is invalid or not supported."""

    exit_status = 3
    default_code = "GO-3000"


class PassError(GraphoptError):
    """A pass failed, or left a program that violates an invariant."""

    exit_status = 4
    default_code = "GO-4000"


class VerificationError(GraphoptError):
    """A result is outside what its contract allows."""

    exit_status = 5
    default_code = "GO-5000"


class TargetError(GraphoptError):
    """The target cannot be compiled for, or an artifact cannot run on this machine."""

    exit_status = 6
    default_code = "GO-6000"


class FindingError(GraphoptError):
    """The fuzzer found something that is wrong, in graphopt or in what it builds on."""

    exit_status = 7
    default_code = "GO-7000"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint naming the closest known names, or None when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(c) for c in close)}?" if close else None
