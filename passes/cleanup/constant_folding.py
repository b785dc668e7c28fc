"""Constant folding: what depends on no input is computed now, by torch itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.ir.level import is_scalar_function
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter, is_effect
from graphopt.passes.cleanup.weights import folded_name
from graphopt.passmanager.base import Pass, PassContext
from graphopt.passmanager.registry import register_pass

_EVALUATION_LIMIT = 2**28
"""Bytes of a tensor that is too large to compute here, even on the way to a smaller one."""


@register_pass("constant-folding")
@dataclass(frozen=True)
class ConstantFolding(Pass):
    """Computes the parts of a graph that depend on no input.

    Never folded: random operators, operators whose result shape depends on data, assertions, and
    anything that reads a symbolic size.  A result replaces its computation where it is small, or
    not larger than the constants that it replaces: ``zeros(4096, 4096)`` stays a call.  Sizes that
    are known numbers become numbers.

    Attributes:
        limit: bytes that a folded constant may have though its operands are smaller.
        parameters: also fold trainable parameters; the result is a constant, no gradient reaches
            the parameter any more.
    """

    limit: int = 65536
    parameters: bool = False

    @property
    def preserves_training(self) -> bool:  # type: ignore[override]
        return not self.parameters

    def apply(self, program: Program, context: PassContext) -> Program:
        rewriter = Rewriter(program, self.name)
        _numbers_for_known_sizes(rewriter)
        values = self._evaluate(rewriter.program)
        self._shrink_to_worthwhile(rewriter.program, values)
        for node in list(rewriter.graph.nodes):
            if node in values and node.op == "call_function" and any(u not in values for u in node.users):
                with rewriter.rule("fold", [node]):
                    folded = rewriter.constant(_name_of(node, values), _owned(values[node]))
                    values[folded] = values[node]  # later results may be computed from this one
                    rewriter.replace(node, folded)
        return rewriter.finish()

    def _evaluate(self, program: Program) -> dict[fx.Node, Any]:
        """The value of every node that depends on constants only."""
        values: dict[fx.Node, Any] = {}
        for node in program.graph.nodes:
            if node.op == "get_attr":
                value = self._constant(program, node)
                if value is not None:
                    values[node] = value
            elif node.op == "call_function" and _is_foldable(node):
                if all(n in values for n in node.all_input_nodes):
                    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
                    with torch.no_grad():
                        values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return values

    def _constant(self, program: Program, node: fx.Node) -> torch.Tensor | None:
        try:
            value = program.constant(node)
        except KeyError:  # the body of a higher-order operator
            return None
        return None if value.requires_grad and not self.parameters else value

    def _shrink_to_worthwhile(self, program: Program, values: dict[fx.Node, Any]) -> None:
        """Takes results away that would bloat the program; their operands are looked at next."""
        for node in reversed(list(program.graph.nodes)):
            if node not in values or node.op != "call_function":
                continue
            if all(u in values for u in node.users):
                continue
            if not isinstance(values[node], torch.Tensor) or not self._is_worthwhile(node, values):
                del values[node]

    def _is_worthwhile(self, node: fx.Node, values: dict[fx.Node, Any]) -> bool:
        size = values[node].nbytes
        return size <= self.limit or size <= sum(
            values[n].nbytes for n in _constants_behind(node) if isinstance(values[n], torch.Tensor)
        )


def _numbers_for_known_sizes(rewriter: Rewriter) -> None:
    """Writes sizes and other scalars that are known numbers as numbers."""
    for node in list(rewriter.graph.nodes):
        value = node.meta.get("val")
        if node.op != "call_function" or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if is_effect(node):
            continue
        with rewriter.rule("known-size", [node]):
            for user in list(node.users):
                rewriter.substitute(user, node, value)
            rewriter.erase_unused([node])


def _is_foldable(node: fx.Node) -> bool:
    target = node.target
    if is_effect(node):
        return False
    if is_scalar_function(target):
        return not isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool))
    if not isinstance(target, torch._ops.OpOverload):
        return False
    unwanted = {
        torch.Tag.nondeterministic_seeded,
        torch.Tag.data_dependent_output,
        torch.Tag.dynamic_output_shape,
    }
    if unwanted & set(target.tags) or _draws_random_numbers(node):
        return False
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return True
    return all(isinstance(s, int) for s in value.shape) and value.nbytes <= _EVALUATION_LIMIT


def _draws_random_numbers(node: fx.Node) -> bool:
    """Calls that are random by an operand and so carry no tag: ``empty`` holds whatever was there."""
    packet = str(node.target).split(".")[1]
    return packet in (
        "empty",
        "empty_like",
        "new_empty",
        "empty_strided",
        "new_empty_strided",
        "empty_permuted",
    )


def _constants_behind(node: fx.Node) -> list[fx.Node]:
    """The constants that a value is computed from."""
    seen: dict[fx.Node, None] = {}
    stack = [node]
    while stack:
        for operand in stack.pop().all_input_nodes:
            if operand not in seen:
                seen[operand] = None
                stack.append(operand)
    return [n for n in seen if n.op == "get_attr"]


def _owned(value: torch.Tensor) -> torch.Tensor:
    """Contiguous, and without the rest of a larger tensor that it is a part of."""
    value = value.detach().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _name_of(node: fx.Node, values: dict[fx.Node, Any]) -> str:
    """A name that tells the user which weight a folded constant comes from."""
    sources = [n for n in _constants_behind(node) if values[n].dim() > 0]
    if not sources:
        return f"constant_{node.name}"
    largest = max(sources, key=lambda n: values[n].numel())
    return folded_name(str(largest.target))
