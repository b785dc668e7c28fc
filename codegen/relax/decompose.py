"""Operators without a converter of their own, through torch's decompositions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt._torch import enable_python_dispatcher, is_composite, make_fx
from graphopt.dialect.registry import get as dialect_op
from graphopt.dialect.registry import is_dialect
from graphopt.ir.propagation import propagate


@functools.cache
def _rules() -> dict[Any, Callable[..., Any]]:
    return dict(torch.export.default_decompositions())


@dataclass(frozen=True)
class Expansion:
    """What one operator is made of.

    Attributes:
        module: a graph over ATen whose placeholders stand for ``operands`` in order.
        operands: the node's tensor and symbolic-size operands.
    """

    module: fx.GraphModule
    operands: list[fx.Node]


def decompose_node(node: fx.Node, table: Mapping[Any, Any]) -> Expansion | None:
    """Traces torch's decomposition of one node, down to operators that ``table`` has.

    Returns:
        None when torch has no decomposition of the operator.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return None
    decompositions = {op: rule for op, rule in _rules().items() if op not in table}
    if is_dialect(target):
        decompositions[target] = dialect_op(target).decompose
    elif target not in decompositions and not is_composite(target):
        return None
    operands = list(dict.fromkeys(node.all_input_nodes))

    def call(*values: Any) -> Any:
        bound = dict(zip(operands, values, strict=True))
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: bound[n])
        return target(*args, **kwargs)

    fakes = [n.meta["val"] for n in operands]
    trace = make_fx(call, decomposition_table=decompositions, _allow_non_fake_inputs=True)
    # torch's C++ bodies of recurrent layers write in place, and with oneDNN they are one of its operators.
    (enabled, *_) = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        with enable_python_dispatcher():
            module = trace(*fakes)
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)
    propagate(module, only_missing=True)
    if any(n.target is target for n in module.graph.nodes):
        return None
    return Expansion(module, operands)
