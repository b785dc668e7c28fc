"""Subgraphs that stay subgraphs: the bodies of torch's higher-order operators.

``torch.cond``, ``while_loop`` and ``scan`` take pure functions of tensors and sizes.  An ONNX subgraph sees
all values around its node, so what it takes from there (values, symbolic sizes, weights) is found first
and passed as operands, with the subgraph's own weights, since a program keeps weights in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx_ir as ir
import torch

from graphopt._torch import is_tracing, untraced
from graphopt.frontends.onnx.values import HostValue, Value

if TYPE_CHECKING:
    from graphopt.frontends.onnx.interpreter import Evaluator

Operand = torch.Tensor | torch.SymInt
Result = TypeVar("Result")


class Region:
    """Subgraphs of one node that one higher-order operator runs with the same operands.

    Use: :meth:`attempt` each of the subgraphs, which finds their weights; then pass :attr:`operands` and
    a :meth:`body` for each to the operator.

    Args:
        evaluator: the scope of the node.
        graphs: the subgraphs.
    """

    def __init__(self, evaluator: Evaluator, graphs: Sequence[ir.Graph]) -> None:
        self._evaluator = evaluator
        self._outside = {v: evaluator.lookup(v) for g in graphs for v in _values_from_outside(g)}
        self._captured = _distinct(leaf for v in self._outside.values() for leaf in _operands_of(v))
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What the bodies take after their own inputs."""
        return (*self._captured, *self._weights.values())

    def attempt(self, run: Callable[[], Result]) -> Result:
        """What ``run`` gives on fake tensors, without a trace; weights that it reads become operands."""
        with untraced(), self._evaluator.module.weights_by(self._lift):
            return run()

    def _lift(self, target: str, outer: Callable[[str], torch.Tensor]) -> torch.Tensor:
        if target not in self._weights:
            self._weights[target] = outer(target)
        return self._weights[target]

    def body(
        self, compute: Callable[..., Sequence[torch.Tensor]], known: Sequence[torch.Tensor]
    ) -> Callable[..., tuple[torch.Tensor, ...]]:
        """``compute`` as a function of its own inputs and the operands.

        Args:
            compute: takes the body's inputs and evaluates a subgraph.
            known: what an attempt gave; without a trace there is no need to evaluate again.
        """

        def function(*arguments: Any) -> tuple[torch.Tensor, ...]:
            if not is_tracing():
                return _copies(known)
            operands = self.operands
            inputs = arguments[: len(arguments) - len(operands)]
            inside = {id(o): a for o, a in zip(operands, arguments[len(inputs) :], strict=True)}
            values = {v: _replaced(given, inside) for v, given in self._outside.items()}
            weights = {t: inside[id(w)] for t, w in self._weights.items()}
            with self._evaluator.rebound(values), self._evaluator.module.weights_by(_only(weights)):
                return _copies(compute(*inputs))

        return function


def _only(weights: Mapping[str, torch.Tensor]) -> Callable[[str, Any], torch.Tensor]:
    return lambda target, _: weights[target]


def _copies(results: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    # A body must not return its operands or views of them, and branches have to agree on strides.
    return tuple(t.clone(memory_format=torch.contiguous_format) for t in results)


def _values_from_outside(graph: ir.Graph) -> dict[ir.Value, None]:
    """Values that the graph, or a subgraph in it, uses and does not define."""
    inside: set[ir.Value] = set()
    used: dict[ir.Value, None] = {}

    def visit(graph: ir.Graph) -> None:
        inside.update(graph.inputs, graph.initializers.values())
        for node in graph:
            inside.update(node.outputs)
            used.update((v, None) for v in node.inputs if v is not None and v.name)
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.GRAPH:
                    visit(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    for inner in attribute.as_graphs():
                        visit(inner)
        used.update((v, None) for v in graph.outputs)

    visit(graph)
    return {v: None for v in used if v not in inside}


def _operands_of(value: Value) -> Iterator[Operand]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _operands_of(item)
    elif isinstance(value, HostValue) and value.symbolic:
        yield from (n for n in value.numbers() if isinstance(n, torch.SymInt))


def _replaced(value: Value, inside: Mapping[int, Any]) -> Value:
    if isinstance(value, torch.Tensor):
        return inside[id(value)]
    if isinstance(value, list):
        return [_replaced(item, inside) for item in value]
    if isinstance(value, HostValue) and value.symbolic:
        entries = np.empty(value.shape, dtype=object)
        for index, number in np.ndenumerate(value.array):
            entries[index] = inside.get(id(number), number)
        return HostValue(entries, value.dtype)
    return value


def _distinct(operands: Iterator[Operand]) -> list[Operand]:
    return list({id(o): o for o in operands}.values())
