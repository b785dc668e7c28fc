"""The structural hash: equal for programs that are the same but for names."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import fx

from graphopt.ir.bodies import body
from graphopt.ir.program import Program
from graphopt.ir.schema import bound_arguments
from graphopt.ir.signature import dtype_name


def structural_hash(program: Program, *, weights: bool) -> str:
    """See :meth:`Program.structural_hash`.

    Nodes count in a canonical order (inputs, then depth first from the outputs), so that a legal
    reordering of the node list changes nothing.
    """
    digest = hashlib.sha256()

    def feed(*parts: object) -> None:
        digest.update("\x1f".join(map(str, parts)).encode() + b"\x1e")

    feed("level", program.level.value)
    for spec in program.signature.inputs:
        feed("in", spec)
    for spec in program.signature.outputs:
        feed("out", spec)
    for name, dim_range in program.signature.dims.items():
        feed("dim", name, dim_range)
    numbers: dict[fx.Node, int] = {}
    for node in program.input_nodes:
        numbers[node] = len(numbers)
    shared: dict[int, int] = {}
    for node in _depth_first(program.output_nodes, numbers):
        if node.op == "get_attr":
            tensor = _tensor(program, node)
            if tensor is None:
                feed("body", _body_hash(program.graph_module, node))
                continue
            # Tied weights are one tensor; that is structure.
            feed("const", shared.setdefault(id(tensor), len(shared)), *_describe(tensor, weights))
        elif isinstance(node.target, torch._ops.OpOverload):
            feed(
                "op",
                node.target,
                *(f"{k}={_canonical(v, numbers)}" for k, v in bound_arguments(node).items()),
            )
        else:
            feed("fn", _name(node.target), _canonical(node.args, numbers), _canonical(node.kwargs, numbers))
    feed("results", *(numbers[n] for n in program.output_nodes))
    return digest.hexdigest()


def _body_hash(owner: fx.GraphModule, node: fx.Node) -> str:
    """The digest of a body's graph: its nodes as they stand, numbered in order."""
    module = body(owner, node)
    if module is None:
        return str(node.target)
    digest = hashlib.sha256()
    numbers: dict[fx.Node, int] = {}
    for inner in module.graph.nodes:
        numbers[inner] = len(numbers)
        if inner.op == "get_attr":
            parts: tuple[object, ...] = ("body", _body_hash(module, inner))
        elif inner.op == "placeholder":
            parts = ("in",)
        else:
            parts = (inner.op, _name(inner.target), _canonical(inner.args, numbers))
            parts += (_canonical(inner.kwargs, numbers),)
        digest.update("\x1f".join(map(str, parts)).encode() + b"\x1e")
    return digest.hexdigest()


def _name(target: Any) -> str:
    if isinstance(target, str | torch._ops.OpOverload):
        return str(target)
    return str(getattr(target, "__qualname__", target))


def _depth_first(roots: list[fx.Node], numbers: dict[fx.Node, int]) -> list[fx.Node]:
    """Nodes not yet numbered that ``roots`` need, operands first; numbers them."""
    order: list[fx.Node] = []
    stack = [(r, False) for r in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in numbers:
            continue
        if ready:
            numbers[node] = len(numbers)
            order.append(node)
            continue
        stack.append((node, True))
        stack.extend((n, False) for n in reversed(node.all_input_nodes) if n not in numbers)
    return order


def _tensor(program: Program, node: fx.Node) -> torch.Tensor | None:
    try:
        return program.constant(node)
    except KeyError:
        return None


def _describe(tensor: torch.Tensor, weights: bool) -> tuple[object, ...]:
    kind = (dtype_name(tensor.dtype), tuple(tensor.shape), tensor.requires_grad)
    return (*kind, tensor_digest(tensor)) if weights else kind


def tensor_digest(tensor: torch.Tensor) -> str:
    """A hex digest of a tensor's bytes in row-major order."""
    data = tensor.detach().cpu().contiguous()
    if data.numel() == 0:
        return "empty"
    return hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _canonical(value: Any, numbers: dict[fx.Node, int]) -> str:
    if isinstance(value, fx.Node):
        return f"%{numbers[value]}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_canonical(v, numbers) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_canonical(v, numbers)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, float):
        return value.hex()
    return repr(value)
