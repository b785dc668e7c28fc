"""What is special about a case, in words that statistics count."""

from __future__ import annotations

from collections import Counter

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Graph, Ref, TorchConstant
from graphopt.fuzz.graphs.graph import Argument

FEATURES = (
    "shared weight",
    "several users",
    "intermediate returned",
    "output twice",
    "input returned",
    "dead code",
    "unused input",
    "odd layout",
    "size 0",
    "size 1",
    "odd size",
    "dynamic axis",
    "number as operand",
    "several dtypes",
)
"""Everything that :func:`features` can say, beside names of dtypes."""


def features(case: FuzzCase) -> set[str]:
    """Which of :data:`FEATURES` a case has, and the dtypes of its leaves and casts."""
    graph = case.graph
    users = graph.users()
    calls = {call.name for call in graph.calls}
    inputs = {leaf.name for leaf in graph.inputs}
    returned = set(graph.outputs)
    live = graph.without_dead_code()
    sizes = {n for leaf in graph.inputs for n in leaf.shape}
    has = {
        "shared weight": any(len(users[leaf.name]) > 1 for leaf in graph.weights),
        "several users": any(len(users[name]) > 1 for name in (*calls, *inputs)),
        "intermediate returned": any(users[name] for name in returned & calls),
        "output twice": max(Counter(graph.outputs).values()) > 1,
        "input returned": bool(returned & inputs),
        "dead code": len(live.calls) < len(graph.calls),
        "unused input": any(not users[name] and name not in returned for name in inputs),
        "odd layout": any(leaf.layout != "contiguous" for leaf in graph.inputs),
        "size 0": 0 in sizes,
        "size 1": 1 in sizes,
        "odd size": any(isinstance(n, int) and n > 1 and n % 2 for n in sizes),
        "dynamic axis": bool(graph.dynamic_names()),
        "number as operand": any(_takes_a_number(c.operator, c.arguments) for c in graph.calls),
        "several dtypes": len({leaf.dtype for leaf in graph.leaves}) > 1,
    }
    return {name for name, found in has.items() if found} | _dtypes(graph)


def _dtypes(graph: Graph) -> set[str]:
    found = {leaf.dtype for leaf in graph.leaves}
    for call in graph.calls:
        for argument in (*call.arguments, *(value for _, value in call.keywords)):
            if isinstance(argument, TorchConstant):
                found.add(argument.name)
    return found


def _takes_a_number(operator: str, arguments: tuple[Argument, ...]) -> bool:
    """A Python number where a tensor could stand."""
    binary = operator.split(".")[1] in "add sub mul div pow rsub maximum floor_divide remainder fmod".split()
    return binary and any(not isinstance(a, Ref) and isinstance(a, int | float) for a in arguments[:2])
