"""What one case exercises."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage.behaviour import Behaviour
from graphopt.fuzz.findings import normalised
from graphopt.fuzz.graphs import Argument, Call, Graph, Ref, TorchConstant, operator_named
from graphopt.ir.program import Program
from graphopt.passmanager.result import PassRecord

Key = tuple[str, ...]


def of_case(case: FuzzCase, program: Program | None, records: Sequence[PassRecord]) -> Behaviour:
    """Counts each behaviour of the case once, however often it occurs.

    Args:
        program: the case's; None where it cannot be built: then dtypes and ranks stay unknown.
        records: of the passes that ran on it.
    """
    keys: dict[tuple[str, Key], None] = {("origins", (case.origin,)): None}
    if case.rule is not None and case.expects is not None:
        keys[("expectations", (case.rule, case.expects))] = None
    keys |= dict.fromkeys(_graph_keys(case.graph))
    if program is not None:
        keys |= dict.fromkeys(("operators", key) for key in _operators(program))
    keys |= dict.fromkeys(_pass_keys(list(leaves(records))))
    found = Behaviour()
    for section, key in keys:
        found.add(section, *key)
    return found


def leaves(records: Sequence[PassRecord]) -> Iterator[PassRecord]:
    """The records of passes that are no composites, in the order in which they ran."""
    for record in records:
        if record.parts:
            yield from leaves(record.parts)
        else:
            yield record


def value_bin(value: Argument) -> str:
    """The bin of an attribute: exact up to one, powers of two above, one-sided below zero.

    >>> [value_bin(v) for v in (-7, -1, 0, 1, 3, 64, 0.5, True, None)]
    ['<-1', '-1', '0', '1', '2-3', '64-127', '(0, 1)', 'True', 'None']
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    if isinstance(value, TorchConstant):
        return value.name
    if isinstance(value, int):
        if value < -1:
            return "<-1"
        if value < 2:
            return str(value)
        low = 1 << (value.bit_length() - 1)
        return f"{low}-{2 * low - 1}"
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return str(value)
        if value < 0:
            return "<0"
        return "0" if value == 0 else "(0, 1)" if value < 1 else "1" if value == 1 else ">1"
    raise TypeError(f"{value!r} is no attribute")


def _operators(program: Program) -> Iterator[Key]:
    """Operator, and dtype and rank of its first tensor operand (of its result, where it has none)."""
    for node in program.operator_nodes():
        tensors = [v for n in node.all_input_nodes if isinstance(v := n.meta.get("val"), torch.Tensor)]
        value = tensors[0] if tensors else node.meta.get("val")
        if isinstance(value, torch.Tensor):
            yield (_name(node), str(value.dtype).removeprefix("torch."), str(value.ndim))


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", "?")


def _graph_keys(graph: Graph) -> Iterator[tuple[str, Key]]:
    producers = {call.name: call for call in graph.calls}
    for call in graph.calls:
        for name, value in _attributes(call):
            yield "attributes", (call.operator, name, value_bin(value))
        if call.operator.startswith("operator."):
            continue
        for used in call.uses:
            producer = producers.get(used)
            while producer is not None and producer.operator == "operator.getitem":
                producer = producers.get(producer.uses[0])
            if producer is not None:
                yield "edges", (producer.operator, call.operator)


def _attributes(call: Call) -> Iterator[tuple[str, Argument]]:
    if call.operator.startswith("operator."):
        return
    parameters = operator_named(call.operator)._schema.arguments
    named = [(p.name, value) for p, value in zip(parameters, call.arguments, strict=False)]
    for name, value in (*named, *call.keywords):
        if isinstance(value, tuple):
            yield from ((f"{name}[]", item) for item in value if not isinstance(item, Ref | tuple))
        elif not isinstance(value, Ref):
            yield name, value


def _pass_keys(records: Sequence[PassRecord]) -> Iterator[tuple[str, Key]]:
    names = [record.spec.partition("{")[0] for record in records]
    for name, record in zip(names, records, strict=True):
        yield "passes", (name, "changed" if record.changed else "unchanged")
        for rule in record.statistics:
            if rule.matched:
                yield "rules", (rule.rule, "fired", "")
            for reason in rule.rejected:
                yield "rules", (rule.rule, "refused", normalised(reason, limit=80))
    changed = [name for name, record in zip(names, records, strict=True) if record.changed]
    for i, first in enumerate(changed):
        for then in changed[i + 1 :]:
            yield "pass_pairs", (first, then, "both changed")
