"""Common subexpressions: equal calls of equal operands become one; so do equal constants."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.ir.level import is_scalar_function
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter, is_effect
from graphopt.ir.schema import bound_arguments
from graphopt.passmanager.base import Pass, PassContext
from graphopt.passmanager.registry import register_pass


@register_pass("common-subexpressions")
@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Keeps the first of equal calls.

    Operands are compared by schema, so that a default written out and one left out are equal; and
    symbolic sizes by their expression, so that a size computed twice in two ways is computed once.
    Random calls and assertions are left alone.

    Attributes:
        equal_constants: also keep one of several equal constants; never of trainable parameters,
            which would be tied.
    """

    equal_constants: bool = True

    def apply(self, program: Program, context: PassContext) -> Program:
        rewriter = Rewriter(program, self.name)
        if self.equal_constants:
            _unify_constants(rewriter)
        first: dict[Hashable, fx.Node] = {}
        for node in list(rewriter.graph.nodes):
            key = _key(node)
            if key is None:
                continue
            known = first.setdefault(key, node)
            if known is not node:
                with rewriter.rule("same", [node, known]):
                    rewriter.replace(node, known)
        return rewriter.finish()


def _key(node: fx.Node) -> Hashable | None:
    """Equal for nodes of equal value; None for nodes that stay."""
    if node.op == "get_attr":
        return ("get_attr", node.target)
    if node.op != "call_function" or is_effect(node):
        return None
    value = node.meta.get("val")
    if isinstance(value, torch.SymInt):
        return ("size", value.node.expr)
    if isinstance(node.target, torch._ops.OpOverload):
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            return None
        operands = tuple((name, _frozen(a)) for name, a in bound_arguments(node).items())
        return (node.target, operands)
    if is_scalar_function(node.target):
        return (node.target, _frozen(node.args), _frozen(tuple(sorted(node.kwargs.items()))))
    return None


def _frozen(value: Any) -> Hashable:
    """A hashable form that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in sorted(value.items()))
    if isinstance(value, slice):
        return ("slice", _frozen(value.start), _frozen(value.stop), _frozen(value.step))
    if isinstance(value, float):
        return ("float", repr(value), math.copysign(1.0, value))
    return (type(value), value)


def _unify_constants(rewriter: Rewriter) -> None:
    """Replaces constants by an earlier one of equal dtype, shape and data."""
    program = rewriter.program
    groups: dict[Hashable, list[fx.Node]] = {}
    for node in list(rewriter.graph.find_nodes(op="get_attr")):
        if not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        tensor = program.constant(node)
        if tensor.requires_grad or tensor.layout is not torch.strided:
            continue
        groups.setdefault((tensor.dtype, tensor.device, tensor.shape, _sample(tensor)), []).append(node)
    for nodes in groups.values():
        kept: list[fx.Node] = []
        for node in nodes:
            tensor = program.constant(node)
            same = next((k for k in kept if _identical(program.constant(k), tensor)), None)
            if same is None:
                kept.append(node)
            else:
                with rewriter.rule("same-constant", [node, same]):
                    rewriter.replace(node, same)


def _sample(tensor: torch.Tensor) -> bytes:
    """Some of the data: tells most different constants apart without reading all of it."""
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // 64)
    return bytes(flat[::step].contiguous().view(torch.uint8).tolist())


def _identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit, NaN and the sign of zero included."""
    if a is b:
        return True
    x, y = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(x, y)
