"""Fewer operators: the first value that shows the problem, what stands just before it, and nothing else.

A computed value that is cut off becomes an input of the same name, shape, dtype and numbers, so that what
is left sees what it saw before.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Argument, Call, Graph, Ref
from graphopt.fuzz.reduction.judge import Judge
from graphopt.fuzz.reduction.values import as_input, recorded

_DEPTHS = (1, 2, 3, 5, 8)


def trim(graph: Graph) -> Graph:
    """The graph without what no output needs, inputs too, but for one that it has to keep."""
    graph = graph.without_dead_code()
    used = {name for call in graph.calls for name in call.uses} | set(graph.outputs)
    kept = tuple(leaf for leaf in graph.leaves if leaf.name in used)
    if not any(leaf.role == "input" for leaf in kept):
        kept = (*graph.inputs[:1], *kept)
    names = {size for leaf in kept for size in leaf.shape if isinstance(size, str)}
    sizes = tuple((name, size) for name, size in graph.sizes if name in names)
    return replace(graph, leaves=kept, sizes=sizes)


def returning(graph: Graph, *names: str) -> Graph:
    """The graph with these values as its only outputs."""
    return trim(replace(graph, outputs=names))


def keeping(graph: Graph, calls: Collection[str], values: dict[str, Any], output: str) -> Graph:
    """Only these calls, with inputs for what they read from others; lists and sizes keep their calls.

    Args:
        values: of the graph, by name.
        output: the value to return, of one of ``calls``.
    """
    kept = set(calls)
    cut: dict[str, torch.Tensor] = {}
    producers = {call.name: call for call in graph.calls}
    for call in reversed(graph.calls):
        if call.name not in kept:
            continue
        for name in call.uses:
            if name not in producers or name in kept:
                continue
            if isinstance(values[name], torch.Tensor):
                cut[name] = values[name]
            else:
                kept.add(name)
    leaves = (*graph.leaves, *(as_input(name, value) for name, value in cut.items() if name not in kept))
    return trim(replace(graph, leaves=leaves, calls=_of(graph, kept), outputs=(output,)))


def _of(graph: Graph, names: Collection[str]) -> tuple[Call, ...]:
    return tuple(call for call in graph.calls if call.name in names)


def first_bad_value(case: FuzzCase, holds: Judge) -> FuzzCase:
    """The case cut behind the first value with the problem.

    The oracle may have named it; else the calls are searched by halving.
    """
    graph = case.graph
    named = holds.accepted[1].facts.get("node") if holds.accepted else None
    if any(call.name == named for call in graph.calls):
        candidate = case.with_graph(returning(graph, str(named)))
        if holds(candidate, f"returns only {named}"):
            return candidate
    best = case
    for name in dict.fromkeys(graph.outputs) if len(graph.outputs) > 1 else ():
        candidate = case.with_graph(returning(graph, name))
        if holds(candidate, f"returns only {name}"):
            best = candidate
            break
    values = recorded(best)
    names = [c.name for c in best.graph.calls if isinstance(values[c.name], torch.Tensor)]
    low, high = 0, len(names) - 1  # the last one is what `best` returns, or near it
    while low < high:
        middle = (low + high) // 2
        candidate = case.with_graph(returning(best.graph, names[middle]))
        if holds(candidate, f"returns only {names[middle]}"):
            best, high = candidate, middle
        else:
            low = middle + 1
    return best


def last_producers(case: FuzzCase, holds: Judge) -> FuzzCase:
    """The case cut a few calls before its output."""
    if len(case.graph.outputs) > 1:
        return case
    (output,) = case.graph.outputs
    producers = {call.name: call for call in case.graph.calls}
    if output not in producers:
        return case
    values = recorded(case)
    for depth in _DEPTHS:
        near = _within(producers, output, depth)
        if len(near) == len(producers):
            break
        candidate = case.with_graph(keeping(case.graph, near, values, output))
        if holds(candidate, f"only {depth} step{'s' * (depth > 1)} before {output}"):
            return candidate
    return case


def _within(producers: dict[str, Call], output: str, steps: int) -> set[str]:
    """Calls from which ``output`` is at most so many operators away, itself included.

    Tuple access and sizes are no steps.
    """
    found: dict[str, int] = {}
    work = [(output, 1)]
    while work:
        name, depth = work.pop(0)
        if name not in producers or found.get(name, steps + 1) <= depth:
            continue
        free = producers[name].operator.startswith("operator.")
        if depth > steps and not free:
            continue
        found[name] = depth
        work.extend((used, depth if free else depth + 1) for used in producers[name].uses)
    return set(found)


def without_calls(case: FuzzCase, holds: Judge) -> FuzzCase:
    """The case without groups of calls, ever smaller ones, that the problem does not need.

    A call that has an operand of its result's shape and dtype is bypassed, others are cut off.
    """
    size = max(1, len(case.graph.calls) // 2)
    while True:
        at = 0
        while at < len(case.graph.calls) and len(case.graph.calls) > 1:
            chunk = [call.name for call in case.graph.calls[at : at + size]]
            smaller = _first_that_holds(case, chunk, holds)
            if smaller is None:
                at += size
            else:
                case = smaller
        if size == 1:
            return case
        size //= 2


def _first_that_holds(case: FuzzCase, chunk: list[str], holds: Judge) -> FuzzCase | None:
    values = recorded(case)
    words = f"without {chunk[0]}" + (f" and {len(chunk) - 1} more" if len(chunk) > 1 else "")
    tried: list[Graph] = []
    for bypass in (True, False):
        graph = _dropped(case.graph, chunk, values, bypass)
        if graph is None or graph in tried or len(graph.calls) >= len(case.graph.calls):
            continue
        tried.append(graph)
        if holds(case.with_graph(graph), words):
            return case.with_graph(graph)
    return None


def _dropped(graph: Graph, chunk: list[str], values: dict[str, Any], bypass: bool) -> Graph | None:
    """The graph without the calls of a chunk; None if it would return nothing that is computed."""
    calls, leaves, outputs = list(graph.calls), list(graph.leaves), list(graph.outputs)
    for name in chunk:
        at = next(i for i, call in enumerate(calls) if call.name == name)
        call, value = calls[at], values[name]
        if not isinstance(value, torch.Tensor):
            continue
        alike = [used for used in call.uses if _alike(values[used], value)] if bypass else []
        if name in outputs:
            computed = {c.name for c in calls[:at] if isinstance(values[c.name], torch.Tensor)}
            before = [used for used in (*alike, *call.uses) if used in computed]
            if not before:
                return None
            outputs = [before[0] if o == name else o for o in outputs]
        del calls[at]
        if alike:
            calls = [c.mapped(_renaming(name, alike[0])) for c in calls]
        elif any(name in c.uses for c in calls):
            leaves.append(as_input(name, value))
    return trim(replace(graph, leaves=tuple(leaves), calls=tuple(calls), outputs=tuple(outputs)))


def _alike(a: Any, b: torch.Tensor) -> bool:
    return isinstance(a, torch.Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _renaming(old: str, new: str) -> Any:
    def rename(argument: Argument) -> Argument:
        return Ref(new) if argument == Ref(old) else argument

    return rename
