"""Operands that are known while compiling: weights, views of them, and what quantized ones stand for."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

_VIEWS = frozenset({
    aten.permute.default, aten.t.default, aten.transpose.int, aten.view.default, aten.reshape.default,
    aten.squeeze.dim, aten.squeeze.default, aten.unsqueeze.default, aten.clone.default,
    aten.select.int, aten.slice.Tensor,
})  # fmt: skip
_PARTS = frozenset({
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
})  # fmt: skip

_DEQUANTIZING = frozenset({aten.to.dtype, aten._to_copy.default, aten.sub.Tensor, aten.mul.Tensor})
"""How weights of a quantized model become the values that they stand for."""


def weight_of(node: Any) -> torch.Tensor | None:
    """The tensor behind an operand that is a weight, or a view of one; None for anything else."""
    if not isinstance(node, fx.Node):
        return None
    if node.op == "get_attr":
        value: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach() if isinstance(value, torch.Tensor) else None
    if node.op != "call_function":
        return None
    if node.target in _DEQUANTIZING:
        return _evaluated(node)
    if node.target is operator.getitem:
        source: Any = node.args[0]
        parts = _applied(source) if source.target in _PARTS else None
        return None if parts is None else parts[node.args[1]]
    return _applied(node) if node.target in _VIEWS else None


def _applied(node: Any) -> Any:
    """A function of a weight and numbers, computed."""
    source, *rest = node.args
    if node.all_input_nodes != [source]:  # a size that is computed
        return None
    base = weight_of(source)
    return None if base is None else node.target(base, *rest, **node.kwargs)


def _evaluated(node: fx.Node) -> torch.Tensor | None:
    """The node's value, if all its operands are known."""
    known = {n: weight_of(n) for n in node.all_input_nodes}
    if any(value is None for value in known.values()):
        return None
    arguments, keywords = fx.map_arg((node.args, node.kwargs), lambda n: known[n])
    return node.target(*arguments, **keywords)  # type: ignore[operator]
