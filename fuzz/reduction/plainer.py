"""Plainer cases: default attributes, float32, contiguous inputs, small whole numbers, fewer passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from graphopt.errors import GraphoptError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Argument, Call, Graph, Leaf, TorchConstant, operator_named
from graphopt.fuzz.reduction.judge import Judge
from graphopt.passmanager.base import flatten
from graphopt.passmanager.registry import build_pipeline

_OTHER_FLOATS = ("float64", "float16", "bfloat16")
_MOST_VALUES = 16
"""Elements of a leaf that are spelled out rather than drawn."""


def fewer_passes(case: FuzzCase, holds: Judge) -> FuzzCase:
    """No pass at all, one pass alone, or the pipeline without some; then parts of composites."""
    case = _fewer(case, holds)
    try:
        parts = tuple(str(leaf) for leaf in flatten(build_pipeline(list(case.passes))))
    except GraphoptError:
        return case
    if len(parts) > len(case.passes):
        apart = replace(case, passes=parts)
        if holds(apart, "composite passes in parts"):
            return _fewer(apart, holds)
    return case


def _fewer(case: FuzzCase, holds: Judge) -> FuzzCase:
    if case.passes and holds(candidate := replace(case, passes=()), "no passes"):
        return candidate
    size = max(1, len(case.passes) // 2)
    while len(case.passes) > 1:
        for at in range(0, len(case.passes), size):
            left = (*case.passes[:at], *case.passes[at + size :])
            if left and holds(candidate := replace(case, passes=left), f"passes {', '.join(left)}"):
                case = candidate
                break
        else:
            if size == 1:
                break
            size //= 2
            continue
        size = min(size, max(1, len(case.passes) // 2))
    return case


def plain_layouts(case: FuzzCase, holds: Judge) -> FuzzCase:
    """Contiguous inputs."""
    leaves = tuple(replace(leaf, layout="contiguous") for leaf in case.graph.leaves)
    if leaves == case.graph.leaves:
        return case
    candidate = case.with_graph(replace(case.graph, leaves=leaves))
    return candidate if holds(candidate, "contiguous inputs") else case


def float32_only(case: FuzzCase, holds: Judge) -> FuzzCase:
    """float32 in the place of the other floating-point dtypes."""

    def plain(argument: Argument) -> Argument:
        other = isinstance(argument, TorchConstant) and argument.name in _OTHER_FLOATS
        return TorchConstant("float32") if other else argument

    graph = case.graph
    leaves = tuple(replace(x, dtype="float32") if x.dtype in _OTHER_FLOATS else x for x in graph.leaves)
    changed = replace(graph, leaves=leaves, calls=tuple(call.mapped(plain) for call in graph.calls))
    if changed == graph:
        return case
    return candidate if holds(candidate := case.with_graph(changed), "float32 only") else case


def default_attributes(case: FuzzCase, holds: Judge) -> FuzzCase:
    """Attributes at their defaults: all at once, else one by one; last, other numbers become 1."""
    everything = case.with_graph(_each_call(case.graph, _all_defaults))
    if everything != case and holds(everything, "default attributes"):
        case = everything
    else:
        case = _one_by_one(case, holds, _defaults, "at its default")
    return _one_by_one(case, holds, _ones, "is 1")


def _each_call(graph: Graph, change: Callable[[Call], Call]) -> Graph:
    return replace(graph, calls=tuple(change(call) for call in graph.calls))


def _one_by_one(
    case: FuzzCase, holds: Judge, variants: Callable[[Call], Iterator[tuple[str, Call]]], words: str
) -> FuzzCase:
    for call in case.graph.calls:
        for argument, _ in list(variants(call)):
            now = next(c for c in case.graph.calls if c.name == call.name)
            changed = dict(variants(now)).get(argument)
            if changed is None:
                continue
            calls = tuple(changed if c.name == call.name else c for c in case.graph.calls)
            candidate = case.with_graph(replace(case.graph, calls=calls))
            if holds(candidate, f"{argument} of {call.name} {words}"):
                case = candidate
    return case


def _defaults(call: Call) -> Iterator[tuple[str, Call]]:
    """The call with one argument at its default, by the argument's name."""
    for i, argument in _arguments(call):
        default = _as_argument(argument.default_value)
        if argument.has_default_value() and call.arguments[i] != default:
            arguments = (*call.arguments[:i], default, *call.arguments[i + 1 :])
            yield argument.name, replace(call, arguments=arguments)
    for key, _ in call.keywords:
        yield key, replace(call, keywords=tuple(pair for pair in call.keywords if pair[0] != key))


def _ones(call: Call) -> Iterator[tuple[str, Call]]:
    """The call with one whole number that has no default, and is no axis, replaced by 1."""
    for i, argument in _arguments(call):
        value = call.arguments[i]
        if not isinstance(value, int) or isinstance(value, bool) or value in (0, 1):
            continue
        if not argument.has_default_value() and not argument.name.startswith("dim"):
            yield argument.name, replace(call, arguments=(*call.arguments[:i], 1, *call.arguments[i + 1 :]))


def _all_defaults(call: Call) -> Call:
    while (found := next(_defaults(call), None)) is not None:
        call = found[1]
    return call


def _arguments(call: Call) -> Iterator[tuple[int, Any]]:
    operator = operator_named(call.operator)
    if isinstance(operator, torch._ops.OpOverload):
        yield from zip(range(len(call.arguments)), operator._schema.arguments, strict=False)


def _as_argument(value: Any) -> Argument:
    return tuple(value) if isinstance(value, list) else value


def small_integers(case: FuzzCase, holds: Judge) -> FuzzCase:
    """Small whole numbers, drawn and as positive as before, in the place of others; else rounded elements."""
    for change, words in ((_drawn_integers, "small whole numbers"), (_drawn, "drawn numbers")):
        leaves = tuple(change(leaf) for leaf in case.graph.leaves)
        if leaves != case.graph.leaves:
            candidate = case.with_graph(replace(case.graph, leaves=leaves))
            if holds(candidate, words):
                return candidate
    for leaf in case.graph.leaves:
        for change in (_drawn_integers, _rounded):
            if (changed := change(leaf)) == leaf:
                continue
            leaves = tuple(changed if x.name == leaf.name else x for x in case.graph.leaves)
            candidate = case.with_graph(replace(case.graph, leaves=leaves))
            if holds(candidate, f"small whole numbers in {leaf.name}"):
                case = candidate
                break
    return case


def _drawn_integers(leaf: Leaf) -> Leaf:
    if not leaf.dtype.startswith(("float", "bfloat")):
        return leaf
    low = 1 if leaf.values == "positive" or (leaf.given and min(leaf.given) > 0) else -2
    return replace(leaf, values="integers", low=low, high=2, given=None)


def _drawn(leaf: Leaf) -> Leaf:
    floats = leaf.dtype.startswith(("float", "bfloat"))
    return replace(leaf, given=None) if floats and len(leaf.given or ()) > _MOST_VALUES else leaf


def _rounded(leaf: Leaf) -> Leaf:
    if leaf.given is None or not leaf.dtype.startswith(("float", "bfloat")):
        return leaf
    return replace(leaf, given=tuple(float(max(-2, min(2, round(v)))) for v in map(_finite, leaf.given)))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
