"""Fake-tensor propagation: what each node's value is, without computing it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import fx

from graphopt._torch import (
    RECURRENT_LAYERS,
    FakeTensor,
    FakeTensorMode,
    detect_fake_mode,
    enable_python_dispatcher,
    recurrent_layers_of_any_length,
)
from graphopt.errors import InputError
from graphopt.ir.provenance import origin


def value_of(node: fx.Node, mode: FakeTensorMode, module: torch.nn.Module | None) -> Any:
    """The value of one node, computed from its operands' ``meta["val"]``.

    Returns:
        A fake tensor, a (symbolic) number, or a tuple of them.

    Raises:
        InputError: the operator rejects its operands.
    """
    if node.op == "get_attr":
        assert module is not None
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor):
            return mode.from_tensor(value, static_shapes=True)
        return value
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    try:
        with ExitStack() as stack:
            stack.enter_context(mode)
            if mode.shape_env is not None:
                # Without it, the C++ bodies of composite operators fix symbolic sizes to their hints.
                # Where all sizes are numbers those bodies are right, and much faster.
                stack.enter_context(enable_python_dispatcher())
                # A fresh size that data decides is for this value alone: torch would look for it in the
                # next graph that is traced.
                stack.enter_context(mode.shape_env.ignore_fresh_unbacked_symbols())
            if node.target in RECURRENT_LAYERS:
                stack.enter_context(recurrent_layers_of_any_length())
            return node.target(*args, **kwargs)  # type: ignore[operator]
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{node.target} rejects its operands: {reason}", node=node.name, layer=origin(node).layer
        ) from error


def propagate(module: fx.GraphModule, *, only_missing: bool = False) -> None:
    """Sets ``meta["val"]`` of every node but the placeholders, whose values must be there.

    Args:
        module: the graph.
        only_missing: leave the values that are there.

    Raises:
        InputError: an operator rejects its operands.
    """
    mode = detect_fake_mode([n.meta.get("val") for n in module.graph.nodes])
    if mode is None:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
    for node in module.graph.nodes:
        if node.op in ("placeholder", "output") or (only_missing and "val" in node.meta):
            continue
        node.meta["val"] = value_of(node, mode, module)
