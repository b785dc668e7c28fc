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

from graphopt._torch import FakeTensor

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


def close_bodies(module: fx.GraphModule) -> None:
    """Makes operands of the tensors that bodies hold themselves, in place, inner bodies first."""
    for call in [n for n in module.graph.nodes if n.target in CONTROL_FLOW]:
        names = [a for a in call.args if isinstance(a, fx.Node) and a.op == "get_attr"]
        inner = [found for name in names if (found := body(module, name)) is not None]
        for found in inner:
            close_bodies(found)
        for found in inner:
            for node in found.graph.find_nodes(op="get_attr"):
                tensor = getattr(found, str(node.target), None)
                if isinstance(tensor, torch.Tensor):
                    _append_operand(module, call, inner, tensor)
                    node.replace_all_uses_with(found.graph.find_nodes(op="placeholder")[-1])
                    found.graph.erase_node(node)
        for found in inner:
            found.recompile()


def _append_operand(
    module: fx.GraphModule, call: fx.Node, inner: list[fx.GraphModule], tensor: torch.Tensor
) -> None:
    """One more operand for a call, and for each of its bodies, which take the operands last."""
    count = 0
    while hasattr(module, f"constant_{count}"):
        count += 1
    name = f"constant_{count}"
    module.register_buffer(name, tensor)
    with module.graph.inserting_before(call):
        operand = module.graph.get_attr(name)
    fake = next(v.fake_mode for v in _values(call) if isinstance(v, FakeTensor))
    operand.meta["val"] = fake.from_tensor(tensor, static_shapes=True)
    *others, operands = call.args
    call.args = (*others, (*operands, operand))  # type: ignore[misc]
    for found in inner:
        last = found.graph.find_nodes(op="placeholder")
        with found.graph.inserting_after(last[-1]):
            placeholder = found.graph.placeholder(name)
        placeholder.meta["val"] = operand.meta["val"]


def _values(call: fx.Node) -> Iterator[Any]:
    for node in call.all_input_nodes:
        yield node.meta.get("val")


def bodies(module: fx.GraphModule) -> Iterator[tuple[str, fx.GraphModule]]:
    """The bodies that a graph names, each with those inside it before it, by dotted name."""
    named = {str(n.target): n for n in module.graph.find_nodes(op="get_attr")}
    for target, node in named.items():
        found = body(module, node)
        if found is not None:
            yield from ((f"{target}.{name}", inner) for name, inner in bodies(found))
            yield target, found
