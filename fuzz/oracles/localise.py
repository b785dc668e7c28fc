"""Where a wrong value first appears: all intermediate values become outputs, and each is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from graphopt.errors import GraphoptError
from graphopt.fuzz.graphs import Graph, build_program, graph_of
from graphopt.fuzz.oracles.inputs import input_sets
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.verification import verify

MAY_FAIL = (GraphoptError, RuntimeError, ValueError)
"""What building, compiling and running a graph may raise."""


def exposed(program: Program) -> tuple[Graph, list[str]]:
    """The graph of a program with every tensor that it computes as an output, and their operators.

    Raises:
        InputError: the program cannot be written as a graph.
    """
    graph = graph_of(program)
    calls = {call.name: call.operator for call in graph.calls}
    tensors = [
        n.name for n in program.graph.nodes if n.name in calls and isinstance(n.meta.get("val"), torch.Tensor)
    ]
    return replace(graph, outputs=tuple(tensors)), [_origin(graph, name) for name in tensors]


def first_wrong(subject: Subject, program: Program, backend: Callable[[Program], Any]) -> str:
    """The operator whose result is the first wrong one when a backend runs a program.

    Args:
        backend: makes a candidate for :func:`~graphopt.verification.verify` of a program.

    Returns:
        Name of the operator; ``""`` where all values are right once they can be looked at, so that only
        the program as a whole is wrong.
    """
    try:
        graph, operators = exposed(program)
        if not graph.outputs:
            return ""
        open_program = build_program(graph, subject.case.seed)
        candidate = backend(open_program)
        for inputs in input_sets(subject):
            report = verify(open_program, candidate, inputs=[inputs], seed=subject.case.seed, quick=True)
            names = [spec.name for spec in open_program.signature.outputs]
            failed = sorted(names.index(output.name) for _, output in report.failures)
            if failed:
                return operators[failed[0]]
    except MAY_FAIL:
        return ""
    return ""


def _origin(graph: Graph, name: str) -> str:
    """The operator of a call; that of the tuple behind ``operator.getitem``."""
    calls = {call.name: call for call in graph.calls}
    call = calls[name]
    while call.operator == "operator.getitem" and call.uses and call.uses[0] in calls:
        call = calls[call.uses[0]]
    return call.operator
