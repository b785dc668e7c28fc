"""Control flow: operators whose operands are graphs.

``torch.cond``, ``while_loop`` and ``scan`` stand in a program as calls of torch's higher-order operators.
Their branches and bodies are graphs of their own, held by the program's graph module and named by
``get_attr`` nodes.  A body is closed: weights, symbolic sizes and all else from outside are operands of the
call, so that a weight has one place, and a pass that looks at one graph looks at all that it depends on.

Passes rewrite the program's own graph; bodies stay as they were captured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

CONTROL_FLOW = frozenset(
    {torch.ops.higher_order.cond, torch.ops.higher_order.while_loop, torch.ops.higher_order.scan}
)
"""The higher-order operators that a program may hold."""


def body(module: torch.nn.Module, node: fx.Node) -> fx.GraphModule | None:
    """The body that a ``get_attr`` node of a graph names; None if it names something else."""
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, fx.GraphModule) else None


def bodies(module: fx.GraphModule) -> Iterator[tuple[str, fx.GraphModule]]:
    """The bodies that a graph names, each with those inside it before it, by dotted name."""
    named = {str(n.target): n for n in module.graph.find_nodes(op="get_attr")}
    for target, node in named.items():
        found = body(module, node)
        if found is not None:
            yield from ((f"{target}.{name}", inner) for name, inner in bodies(found))
            yield target, found
