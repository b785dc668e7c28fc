"""``If``: a branch that is known while importing is taken; where data decides, ``torch.cond`` does."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from graphopt._torch import tree_flatten, tree_unflatten
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import VALUE, op
from graphopt.frontends.onnx.values import Constant, HostValue, Value, type_of


@op("If", since=1, default=VALUE, ignores=("then_branch", "else_branch"))
def conditional(call: Call, condition: Value) -> tuple[Value, ...]:
    """One branch where the condition is known while importing, else ``torch.cond`` of both.

    A condition on dynamic sizes is asked for the example sizes; the answer becomes a guard, which
    restricts the dimensions it involves.  Where the sizes of the branches' results differ, the size of the
    node's result is one that data decides; they must agree in rank, dtype and the lengths of sequences.
    """
    known = call.host(0)
    if known is not None:
        branch = "then_branch" if bool(known.number()) else "else_branch"
        return tuple(call.run(call.graph(branch)))
    graphs = [call.graph(name) for name in ("then_branch", "else_branch")]
    region = call.region(graphs)
    (chosen, form), (other, other_form) = [region.attempt(partial(_leaves, call, g)) for g in graphs]
    if form != other_form:
        raise call.unknown(0, "its branches give sequences of different lengths, or a sequence and a tensor")
    selected = [i for i, pair in enumerate(zip(chosen, other, strict=True)) if not _same(*pair)]
    if selected:

        def tensors_of(leaves: list[Value]) -> list[torch.Tensor]:
            return [call.as_tensor(leaves[i], f"result {i}") for i in selected]

        def results(graph: ir.Graph) -> list[torch.Tensor]:
            return tensors_of(_leaves(call, graph)[0])

        # What the first attempt gave is used: nested branches would run twice at each level.
        tried = [region.attempt(partial(tensors_of, leaves)) for leaves in (chosen, other)]
        _check_alike(call, *tried)
        bodies = [region.body(partial(results, g), t) for g, t in zip(graphs, tried, strict=True)]
        flag = call.as_tensor(condition, "condition").reshape(())
        tensors = torch.ops.higher_order.cond(flag, *bodies, region.operands)
        for index, tensor in zip(selected, tensors, strict=True):
            chosen[index] = tensor
    return tuple(tree_unflatten(chosen, form))


def _leaves(call: Call, graph: ir.Graph) -> tuple[list[Value], Any]:
    """The results of a branch with its sequences taken apart, and what puts them together again."""
    return tree_flatten(call.run(graph))


def _same(a: Value, b: Value) -> bool:
    """Whether both branches give the same value, known while importing."""
    if a is None and b is None:
        return True
    if isinstance(a, Constant) and isinstance(b, Constant):
        return a.target == b.target
    if not (isinstance(a, HostValue) and isinstance(b, HostValue)) or a.symbolic or b.symbolic:
        return False
    return a.dtype == b.dtype and np.array_equal(a.array, b.array)


def _check_alike(call: Call, chosen: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for index, (a, b) in enumerate(zip(chosen, other, strict=True)):
        if a.dtype != b.dtype or a.ndim != b.ndim:
            raise call.unknown(0, f"its result {index} is {type_of(a)} or {type_of(b)}")
