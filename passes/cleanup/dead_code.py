"""Dead code: calls whose value nobody reads, weights nobody uses, assertions that cannot fail."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.passmanager.base import Pass, PassContext
from graphopt.passmanager.registry import register_pass

aten = torch.ops.aten


@register_pass("dead-code")
class DeadCode(Pass):
    """Drops what no output needs, with the weights behind it.

    Assertions of the user's stay.  Those that torch.export adds of its own, on metadata that is
    known here, go, and so does any whose condition is the constant true.
    """

    def apply(self, program: Program, context: PassContext) -> Program:
        rewriter = Rewriter(program, self.name)
        for node in list(rewriter.graph.nodes):
            if node.op == "call_function" and not node.users and _cannot_fail(rewriter.program, node):
                with rewriter.rule("dead-assertion", [node]):
                    rewriter.erase_assertion(node)
        return rewriter.finish()


def _cannot_fail(program: Program, node: fx.Node) -> bool:
    if node.target is aten._assert_tensor_metadata.default:
        return True
    if node.target not in (aten._assert_async.default, aten._assert_async.msg, aten._assert_scalar.default):
        return False
    return _is_true(program, node.args[0])


def _is_true(program: Program, condition: Any) -> bool:
    if isinstance(condition, fx.Node):
        if condition.op == "get_attr":
            tensor = program.constant(condition)
            return tensor.numel() == 1 and bool(tensor)
        condition = condition.meta.get("val")
    return isinstance(condition, (bool, int)) and bool(condition)
