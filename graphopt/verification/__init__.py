"""Verification: what it means that a candidate computes the same, and the check of it.

``verify`` is the one entry; the command line, the pass manager and the fuzzer all call it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.verification.inputs import Draw, draw_inputs, load_inputs
    from graphopt.verification.noise import measure_noise
    from graphopt.verification.report import VerificationReport
    from graphopt.verification.runners import OnnxRuntimeRunner
    from graphopt.verification.verifier import verify

_WHERE = {
    "Draw": "inputs",
    "OnnxRuntimeRunner": "runners",
    "VerificationReport": "report",
    "draw_inputs": "inputs",
    "load_inputs": "inputs",
    "measure_noise": "noise",
    "verify": "verifier",
}

__all__ = [
    "Draw",
    "OnnxRuntimeRunner",
    "VerificationReport",
    "draw_inputs",
    "load_inputs",
    "measure_noise",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
