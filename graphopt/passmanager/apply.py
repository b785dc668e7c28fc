"""Runs one pass on one program, and sees to it that the input stays as it was."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.errors import GraphoptError, PassError
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass, PassContext


def apply_pass(item: Pass, program: Program, context: PassContext) -> Program:
    """The result of a pass, whatever it raises turned into an error that names it.

    Raises:
        PassError: GO-4000, the pass raised; GO-4001, it returned no program or changed its input.
        GraphoptError: what the pass itself raised as one.
    """
    fingerprint = _fingerprint(program)
    try:
        result = item.apply(program, context)
    except GraphoptError:
        raise
    except (Exception, SystemExit) as error:
        raise PassError(f"pass {item.name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(result, Program):
        raise PassError(f"pass {item.name!r} returned {type(result).__name__}, not a program", code="GO-4001")
    if _fingerprint(program) != fingerprint:
        raise PassError(
            f"pass {item.name!r} changed its input program",
            code="GO-4001",
            hint="edit a copy: graphopt.Rewriter makes one",
        )
    return result


def differs(before: Program, after: Program) -> bool:
    """Whether a pass changed anything: graph, dead code included, weights, signature or level."""
    if after is before:
        return False
    return (
        len(after.provenance.events) != len(before.provenance.events)
        or after.signature != before.signature
        or after.level is not before.level
        or any(a is not b for a, b in zip(_weights(before), _weights(after), strict=False))
        or len(after.graph.nodes) != len(before.graph.nodes)  # dead code, which the hash does not see
        or not (
            _same_nodes(before, after)
            or after.structural_hash(weights=False) == before.structural_hash(weights=False)
        )
    )


def _same_nodes(before: Program, after: Program) -> bool:
    """Whether the graphs are equal node by node, as they stand; that takes far less than a hash."""

    def lines(program: Program) -> list[tuple[object, ...]]:
        return [(n.op, n.target, n.name, repr(n.args), repr(n.kwargs)) for n in program.graph.nodes]

    return lines(before) == lines(after)


def _weights(program: Program) -> list[torch.Tensor]:
    return list(program.constants.values())


def _fingerprint(program: Program) -> list[Any]:
    """Everything that a pass could change in place: nodes, what they hold, weights."""
    nodes = [(n, n.op, n.target, n.args, n.kwargs, id(n.meta.get("val"))) for n in program.graph.nodes]
    # A tensor counts its in-place changes.
    weights = [
        (name, id(w), None if w.is_inference() else w._version) for name, w in program.constants.items()
    ]
    return [nodes, weights, program.signature, program.level, len(program.provenance.events)]
