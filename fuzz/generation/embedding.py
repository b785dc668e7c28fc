"""A graph is put inside of another: inputs may be fed, results read, what is inside stays as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from graphopt.fuzz.generation.sketch import Shape, Sketch, Value, kind_of
from graphopt.fuzz.graphs import Argument, Call, Graph, Ref, TorchConstant

_SIZES = ((4, 2, 3, 5), (3, 6, 5, 7), (2, 5, 7, 3), (5, 3, 2, 6), (7, 4, 5, 2))
"""Sizes for dynamic axes: different ones, because equal sizes would turn near misses into positives."""


@dataclass
class Embedded:
    """Where a graph stands in another.

    Attributes:
        inputs: names of what its inputs are now.
        inside: names of its values that are read inside of it.
        results: names of what it returned, in order.
        required: results that are read inside of it too, and have to stay outputs.
    """

    inputs: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    required: list[str] = field(default_factory=list)


def embed(sketch: Sketch, graph: Graph, *, fed: float = 0.0, dynamic: bool = False) -> Embedded | None:
    """Adds a graph to another one.  What is inside of it, and its weights, are closed to further calls.

    Args:
        fed: probability that an input is made of a value of the graph around it instead of being a leaf.
        dynamic: keep dynamic axes; otherwise each gets a size, and arithmetic on sizes is done here.

    Returns:
        None where torch refuses it, or a value is not finite.
    """
    known: dict[str, Argument] = {}
    sizes = dict(zip(sorted(graph.dynamic_names()), sketch.choices.one_of(_SIZES), strict=False))
    if dynamic:
        sketch.sizes.update(sizes)
    place = Embedded()
    taken: set[str] = set()
    for leaf in graph.leaves:
        shape = tuple(sizes[n] if isinstance(n, str) else n for n in leaf.shape)
        feed = None
        if leaf.role == "input" and not dynamic and sketch.choices.chance(fed):
            feed = adapted(sketch, shape, leaf.dtype, taken)
        if feed is None:
            stem = "x" if leaf.role == "input" else "k"
            values = "normal" if leaf.role == "input" and leaf.dtype == "bool" else leaf.values
            named = replace(leaf, name=sketch.fresh_name(stem), values=values)
            feed = sketch.leaf(named if dynamic else replace(named, shape=shape))
        known[leaf.name] = feed
        if leaf.role == "input":
            place.inputs.append(feed.name)
        else:
            sketch.closed.add(feed.name)
        taken.add(feed.name)
    for call in graph.calls:
        if not _add(sketch, call, known, dynamic):
            return None
    names = {old: new.name for old, new in known.items() if isinstance(new, Ref)}
    read = {name for call in graph.calls for name in call.uses}
    place.inside = [names[c.name] for c in graph.calls if c.name in read and c.name in names]
    place.results = [names[name] for name in graph.outputs]
    place.required = [n for n in dict.fromkeys(place.results) if n in place.inside]
    sketch.closed.update(place.inside)
    return None if sketch.evaluate() else place


def adapted(sketch: Sketch, shape: Shape, dtype: str, taken: set[str]) -> Ref | None:
    """A value of the graph, cast and cut or repeated until it has a shape and a dtype."""
    fitting = [v for v in sketch.tensors() if v.name not in taken and _can_become(v, shape, dtype)]
    if not fitting:
        return None
    exact = [v for v in fitting if v.shape == shape and v.dtype == dtype]
    value = sketch.choices.one_of(exact or fitting)
    return sketch.attempt(lambda: _adapt(sketch, value, shape, dtype))


def _can_become(value: Value, shape: Shape, dtype: str) -> bool:
    """Floats become floats only of floats, so that values stay of the size that they have."""
    return value.kind == kind_of(dtype) and (value.tensor.numel() > 0) == (math.prod(shape) > 0)


def _adapt(sketch: Sketch, value: Value, shape: Shape, dtype: str) -> Ref | None:
    found: Ref | None = value.ref
    if value.dtype != dtype:
        found = sketch.call("aten.to.dtype", value.ref, TorchConstant(dtype))
    wanted, there = math.prod(shape), value.tensor.numel()
    if found is None or value.shape == shape:
        return found
    if there != wanted:
        found = sketch.call("aten.reshape.default", found, (-1,))
    if found is not None and there < wanted:
        found = sketch.call("aten.repeat.default", found, (-(-wanted // there),))
        there *= -(-wanted // there)
    if found is not None and there > wanted:
        found = sketch.call("aten.slice.Tensor", found, 0, 0, wanted)
    if found is not None and shape != (wanted,):
        found = sketch.call("aten.reshape.default", found, shape)
    return found


def _add(sketch: Sketch, call: Call, known: dict[str, Argument], dynamic: bool) -> bool:
    """Adds one call of the embedded graph under a new name, or works out the size that it is."""

    def moved(argument: Argument) -> Argument:
        return known[argument.name] if isinstance(argument, Ref) else argument

    stem = call.operator.split(".")[1].strip("_")
    renamed = replace(call.mapped(moved), name=sketch.fresh_name(stem))
    if not sketch.add(renamed):
        return False
    result = sketch.values[renamed.name]
    if isinstance(result, (int, float)) and not dynamic:
        sketch.calls.pop()
        known[call.name] = result
    else:
        known[call.name] = Ref(renamed.name)
    return True
