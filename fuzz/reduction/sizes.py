"""Smaller tensors: equal numbers are taken to be one dimension, and shrink together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Argument, Call, Graph, Leaf, operator_named
from graphopt.fuzz.reduction.judge import Judge

_SHAPES = frozenset(
    "size shape sizes normalized_shape output_size split_size split_sizes length end repeats".split()
)
"""Arguments that name sizes of tensors rather than steps or windows."""


def static_sizes(case: FuzzCase, holds: Judge) -> FuzzCase:
    """The case without dynamic axes."""
    graph = case.graph
    if not graph.dynamic_names():
        return case
    leaves = tuple(replace(leaf, shape=graph.size_of(leaf)) for leaf in graph.leaves)
    candidate = case.with_graph(replace(graph, leaves=leaves, sizes=()))
    return candidate if holds(candidate, "no dynamic axes") else case


def smaller_sizes(case: FuzzCase, holds: Judge) -> FuzzCase:
    """The case with smaller leaves, and attributes to match: all at once, then size by size, then axis by
    axis of single leaves."""
    everything = {size: 2 for size in _sizes(case.graph) if size > 2}
    if len(everything) > 1:
        case = _resized(case, everything, holds, "all sizes at most 2") or case
    for size in sorted(_sizes(case.graph), reverse=True):
        for target in (2, 3, size // 2):
            if 1 < target < size:
                found = _resized(case, {size: target}, holds, f"{target} in the place of {size}")
                if found is not None:
                    case = found
                    break
    for leaf in case.graph.leaves:
        for axis, length in enumerate(leaf.shape):
            if isinstance(length, int) and length > 2:
                case = _shorter_axis(case, leaf.name, axis, holds)
    return case


def _sizes(graph: Graph) -> list[int]:
    found = {s for leaf in graph.leaves for s in leaf.shape if isinstance(s, int) and s > 1}
    return sorted(found | {size for _, size in graph.sizes if size > 1})


def _resized(case: FuzzCase, mapping: Mapping[int, int], holds: Judge, words: str) -> FuzzCase | None:
    """The first form of the smaller case that can be built, if the problem is in it."""
    graph = case.graph
    leaves = tuple(_narrowed(leaf, graph, mapping) for leaf in graph.leaves)
    sizes = tuple((name, mapping.get(size, size)) for name, size in graph.sizes)
    for calls in _forms(graph, mapping):
        candidate = case.with_graph(replace(graph, leaves=leaves, calls=calls, sizes=sizes))
        if holds.runs(candidate):
            return candidate if holds(candidate, words) else None
    return None


def _shorter_axis(case: FuzzCase, name: str, axis: int, holds: Judge) -> FuzzCase:
    leaf = next(leaf for leaf in case.graph.leaves if leaf.name == name)
    size = leaf.shape[axis]
    if not isinstance(size, int):
        return case
    for target in (2, size - 1):
        shape = (*leaf.shape[:axis], target, *leaf.shape[axis + 1 :])
        leaves = tuple(_cut_to(x, shape) if x.name == name else x for x in case.graph.leaves)
        candidate = case.with_graph(replace(case.graph, leaves=leaves))
        if holds.runs(candidate) and holds(candidate, f"axis {axis} of {name} is {target}"):
            return candidate
    return case


def _narrowed(leaf: Leaf, graph: Graph, mapping: Mapping[int, int]) -> Leaf:
    return _cut_to(leaf, tuple(mapping.get(s, s) if isinstance(s, int) else s for s in leaf.shape))


def _cut_to(leaf: Leaf, shape: tuple[int | str, ...]) -> Leaf:
    """The leaf with a smaller shape: of given elements those at the front stay, as long as they are in the
    range of the indices that they may be."""
    if leaf.given is None:
        return replace(leaf, shape=shape)
    old, new = [int(s) for s in leaf.shape], [int(s) for s in shape]
    kept = torch.tensor(leaf.given, dtype=torch.float64 if _floats(leaf) else None).reshape(old)
    kept = kept[tuple(slice(0, s) for s in new)]
    return replace(leaf, shape=shape, given=tuple(kept.flatten().tolist()))


def _floats(leaf: Leaf) -> bool:
    return leaf.dtype.startswith(("float", "bfloat"))


def _forms(graph: Graph, mapping: Mapping[int, int]) -> Iterator[tuple[Call, ...]]:
    """Calls whose attributes follow the new sizes, in the ways that there are."""
    yield tuple(_changed(call, mapping, _SHAPES.__contains__) for call in graph.calls)
    yield tuple(_changed(call, mapping, lambda name: name != "dim") for call in graph.calls)
    yield tuple(_inferred(_changed(call, mapping, _SHAPES.__contains__)) for call in graph.calls)
    yield graph.calls


def _changed(call: Call, mapping: Mapping[int, int], chosen: Callable[[str], bool]) -> Call:
    operator = operator_named(call.operator)
    if not isinstance(operator, torch._ops.OpOverload):
        return call
    arguments = []
    for value, argument in zip(call.arguments, operator._schema.arguments, strict=False):
        integers = "int" in str(argument.type).lower()
        arguments.append(_mapped(value, mapping) if integers and chosen(argument.name) else value)
    return replace(call, arguments=tuple(arguments))


def _mapped(value: Argument, mapping: Mapping[int, int]) -> Argument:
    if isinstance(value, tuple):
        return tuple(_mapped(item, mapping) for item in value)
    return mapping.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _inferred(call: Call) -> Call:
    """A view whose largest size torch computes."""
    if ".view." not in call.operator and ".reshape." not in call.operator or len(call.arguments) < 2:
        return call
    shape = call.arguments[1]
    if not isinstance(shape, tuple) or not shape or not all(isinstance(s, int) and s > 0 for s in shape):
        return call
    largest = shape.index(max(shape, key=lambda s: s if isinstance(s, int) else 0))
    return replace(call, arguments=(call.arguments[0], (*shape[:largest], -1, *shape[largest + 1 :])))
