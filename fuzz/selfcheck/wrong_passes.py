"""Wrong passes: what no rewrite rule is to blame for."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import AbstractContextManager
from typing import Any

import torch

from graphopt.fuzz.selfcheck.variant import replaced, variant
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.passes.cleanup import common_subexpressions, constant_folding
from graphopt.passes.cleanup.common_subexpressions import CommonSubexpressions
from graphopt.passes.cleanup.dead_code import DeadCode
from graphopt.passmanager.base import PassContext

aten = torch.ops.aten
Patch = AbstractContextManager[Any]


@variant("common-subexpressions", "keyword and trailing operands are not compared", within=300)
def calls_equal_by_their_first_operands() -> Patch:
    right = common_subexpressions._key

    def key(node: Any) -> Any:
        found: Any = right(node)
        if found is None or not isinstance(node.target, torch._ops.OpOverload):
            return found
        return (found[0], found[1][:1])

    return replaced(common_subexpressions, "_key", key)


@variant("common-subexpressions", "constants are compared by dtype and shape alone", within=600)
def constants_equal_by_their_shape() -> Patch:
    return replaced(common_subexpressions, "_unify_constants", _unify_by_shape)


def _unify_by_shape(rewriter: Rewriter) -> None:
    kept: dict[Any, Any] = {}
    for node in list(rewriter.graph.find_nodes(op="get_attr")):
        tensor = rewriter.program.constant(node)
        first = kept.setdefault((tensor.dtype, tensor.shape), node)
        if first is not node:
            with rewriter.rule("same-constant", [node, first]):
                rewriter.replace(node, first)


@variant("common-subexpressions", "which of equal calls stay is a matter of chance", within=600, chance=True)
def a_matter_of_chance() -> Patch:
    right, counter = common_subexpressions._key, itertools.count()

    def key(node: Any) -> Any:
        return right(node) if next(counter) % 3 else None

    return replaced(common_subexpressions, "_key", key)


@variant("dead-code", "the last of several outputs is dropped", within=100)
def output_dropped() -> Patch:
    def drop(result: Program) -> Program:
        output = result.graph.output_node()
        if len(output.args[0]) > 1:  # type: ignore[arg-type]
            output.args = (tuple(output.args[0])[:-1],)  # type: ignore[arg-type]
        return result

    return _after(DeadCode, drop)


@variant("dead-code", "two outputs of one shape are exchanged", within=1000)
def outputs_exchanged() -> Patch:
    def exchange(result: Program) -> Program:
        output = result.graph.output_node()
        nodes = list(output.args[0])  # type: ignore[arg-type]
        for i, j in itertools.combinations(range(len(nodes)), 2):
            a, b = nodes[i].meta["val"], nodes[j].meta["val"]
            if nodes[i] is not nodes[j] and a.shape == b.shape and a.dtype == b.dtype:
                nodes[i], nodes[j] = nodes[j], nodes[i]
                break
        output.args = (tuple(nodes),)
        return result

    return _after(DeadCode, exchange)


@variant("dead-code", "an output is called something else", within=50)
def output_renamed() -> Patch:
    def rename(result: Program) -> Program:
        first, *rest = result.signature.outputs
        outputs = (dataclasses.replace(first, name=f"{first.name}_1"), *rest)
        return result.replaced(signature=dataclasses.replace(result.signature, outputs=outputs))

    return _after(DeadCode, rename)


@variant("common-subexpressions", "every run negates the first output twice more", within=50)
def growth_without_end() -> Patch:
    def grow(result: Program) -> Program:
        rewriter = Rewriter(result, "common-subexpressions")
        node = rewriter.program.output_nodes[0]
        if node.op != "call_function" or not node.meta["val"].dtype.is_floating_point:
            return result
        with rewriter.rule("negate", [node]):
            with rewriter.after(node):
                once = rewriter.call(aten.neg.default, node)
            with rewriter.after(once):
                twice = rewriter.call(aten.neg.default, once)
        for user in [u for u in node.users if u is not once]:
            rewriter.substitute(user, node, twice)
        return rewriter.finish()

    return _after(CommonSubexpressions, grow)


@variant("constant-folding", "folded constants go through half precision", within=800)
def constants_rounded() -> Patch:
    right = constant_folding._owned

    def rounded(value: torch.Tensor) -> torch.Tensor:
        value = right(value)
        return value.half().to(value.dtype) if value.dtype == torch.float32 else value

    return replaced(constant_folding, "_owned", rounded)


@variant("constant-folding", "an operand that is an input counts as a constant when it is small", within=800)
def sizes_of_inputs_baked() -> Patch:
    def evaluate(self: Any, program: Program) -> dict[Any, Any]:
        values = _right_evaluate(self, program)
        for node in program.graph.nodes:
            small = node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)
            if small and node not in values and node.meta["val"].numel() == 1:
                value = node.meta["val"]
                values[node] = torch.ones(value.shape, dtype=value.dtype)
        return values

    return replaced(constant_folding.ConstantFolding, "_evaluate", evaluate)


_right_evaluate = constant_folding.ConstantFolding._evaluate


@variant("rewriter", "a changed operand leaves the recorded shape as it was", within=400)
def stale_view() -> Patch:
    """The flatten behind a removed reshape keeps a value of the wrong shape."""
    right = Rewriter.call

    def call(self: Rewriter, operator: Any, *args: Any, **kwargs: Any) -> Any:
        node = right(self, operator, *args, **kwargs)
        source = args[0].meta.get("val") if args and isinstance(args[0], torch.fx.Node) else None
        if node.target is aten.reshape.default and isinstance(source, torch.Tensor):
            node.meta["val"] = source
        return node

    return replaced(Rewriter, "call", call)


@variant("dead-code", "weights are changed in the input too, which shares them", within=600)
def input_mutated() -> Patch:
    def mutate(result: Program) -> Program:
        for tensor in result.constants.values():
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor.mul_(1.5)
        return result

    return _after(DeadCode, mutate)


def _after(cls: Any, change: Any) -> Patch:
    """The pass, and ``change`` of its result."""
    right = cls.apply

    def apply(self: Any, program: Program, context: PassContext) -> Program:
        return change(right(self, program, context))

    return replaced(cls, "apply", apply)
