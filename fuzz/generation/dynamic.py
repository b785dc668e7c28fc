"""Axes of inputs whose size is open until the program runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from graphopt.errors import InputError
from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.graphs import Graph, build_program

_NAME = "n"
_OTHER_SIZES = (11, 6)
"""Sizes at which a graph has to run too, before torch.export is asked."""


def name_an_axis(sketch: Sketch) -> bool:
    """Makes the first axis of some inputs dynamic, if the graph runs at other sizes too.

    Returns:
        False if it does not, and nothing has changed.
    """
    inputs = [leaf for leaf in sketch.leaves.values() if leaf.role == "input" and leaf.shape]
    sizes = sorted({int(leaf.shape[0]) for leaf in inputs if int(leaf.shape[0]) > 1})
    if not sizes:
        return False
    size = sketch.choices.one_of(sizes)
    leaves = dict(sketch.leaves)
    for leaf in inputs:
        if leaf.shape[0] == size:
            sketch.leaves[leaf.name] = replace(leaf, shape=(_NAME, *leaf.shape[1:]), layout="contiguous")
    found = True
    for other in (*_OTHER_SIZES, size):
        sketch.sizes = {_NAME: other}
        found = found and sketch.evaluate() is None
    if not found:
        sketch.leaves, sketch.sizes = leaves, {}
        sketch.evaluate()
    return found


def with_axes_that_export(sketch: Sketch, graph: Graph, dropped: Counter[str]) -> Graph | None:
    """The graph, with fixed sizes if torch.export does not keep its axes open.

    Returns:
        None if the graph was made with dynamic axes and has sizes in its arguments.
    """
    if not graph.dynamic_names():
        return graph
    try:
        program = build_program(graph, sketch.seed)
        if set(program.symbols.values()) >= graph.dynamic_names():
            return graph
    except InputError:
        pass
    dropped["dynamic axes that torch.export does not keep"] += 1
    if any(call.operator == "aten.sym_size.int" for call in graph.calls):
        return None
    leaves = tuple(replace(leaf, shape=graph.size_of(leaf)) for leaf in graph.leaves)
    return replace(graph, leaves=leaves, sizes=())
