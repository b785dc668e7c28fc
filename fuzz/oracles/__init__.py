"""Oracles: properties that every case has to have, checked by the contracts that passes declare."""

from collections.abc import Sequence

from graphopt.fuzz.oracles.oracle import Oracle
from graphopt.fuzz.oracles.subject import Subject

__all__ = ["Oracle", "Subject", "backend_oracles", "pass_oracles"]


def pass_oracles() -> Sequence[Oracle]:
    """The properties of passes, cheap and fundamental ones first; milliseconds each."""
    from graphopt.fuzz.oracles.contract import Contract
    from graphopt.fuzz.oracles.gradients import Gradients
    from graphopt.fuzz.oracles.invariants import Invariants, Untouched
    from graphopt.fuzz.oracles.repeated import Fixpoint, NoOperation
    from graphopt.fuzz.oracles.rules import Firing
    from graphopt.fuzz.oracles.variants import Sharing, Variants

    return (
        Invariants(),
        Untouched(),
        NoOperation(),
        Firing(),
        Contract(),
        Sharing(),
        Gradients(),
        Fixpoint(),
        Variants(),
    )


def backend_oracles(names: Sequence[str]) -> Sequence[Oracle]:
    """The properties of exporters and of the code generator.

    Args:
        names: ``ort`` for ONNX files in onnxruntime and read back, or targets whose code runs here (``cpu``).

    Raises:
        UsageError: GO-2003, a name is neither.
        TargetError: the code of a target does not run on this machine.
    """
    from graphopt.codegen.targets import find_target
    from graphopt.fuzz.oracles.compiled import Compiled, EachOperator
    from graphopt.fuzz.oracles.onnx_file import OnnxFile, OnnxRoundTrip

    found: list[Oracle] = []
    for name in names:
        if name == "ort":
            found += [OnnxFile(), OnnxRoundTrip()]
        else:
            find_target(name).require_runnable()
            found += [Compiled(name), EachOperator(name)]
    return tuple(found)
