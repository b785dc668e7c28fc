"""From a graph as data to a program, and back.

Graphs of fixed sizes are built node by node, in a few milliseconds; torch.export takes a hundred times as
long.  Those with dynamic axes go through it, since it alone knows which sizes are equal.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch
from graphopt.fuzz.graphs.graph import Argument, Call, Graph, Leaf, Ref, TorchConstant
from graphopt.fuzz.graphs.values import draw_inputs, draw_weights
from graphopt.ir.program import Program

_LARGEST_GIVEN = 4096
"""Elements of a weight that a graph keeps; larger ones are drawn again, from the seed."""


def operator_named(name: str) -> Any:
    """The function behind the name of a call.

    Raises:
        ValueError: there is none in this installation.
    """
    parts = name.split(".")
    if parts[0] == "operator" and len(parts) == 2 and hasattr(operator, parts[1]):
        return getattr(operator, parts[1])
    if len(parts) == 3:
        packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
        if packet is not None and parts[2] in packet.overloads():
            return getattr(packet, parts[2])
    raise ValueError(f"there is no operator {name!r}")


def resolved(argument: Argument, values: Mapping[str, Any]) -> Any:
    """An argument as torch takes it, with what stands for each name (a node, a tensor) in its place."""
    if isinstance(argument, Ref):
        return values[argument.name]
    if isinstance(argument, TorchConstant):
        return torch.device("cpu") if argument.name == "cpu" else getattr(torch, argument.name)
    if isinstance(argument, tuple):
        return [resolved(item, values) for item in argument]
    return argument


def build_module(graph: Graph, seed: int = 0) -> fx.GraphModule:
    """The graph as a module that takes the inputs in order and returns a tuple.

    Raises:
        ValueError: it calls an operator that does not exist.
    """
    root = torch.nn.Module()
    for name, value in draw_weights(graph, seed).items():
        trainable = next(leaf for leaf in graph.weights if leaf.name == name).role == "weight"
        if trainable and value.is_floating_point():
            root.register_parameter(name, torch.nn.Parameter(value))
        else:
            root.register_buffer(name, value)
    built = fx.Graph()
    values: dict[str, fx.Node] = {leaf.name: built.placeholder(leaf.name) for leaf in graph.inputs}
    for leaf in graph.weights:
        values[leaf.name] = built.get_attr(leaf.name)
    for call in graph.calls:
        arguments = tuple(resolved(a, values) for a in call.arguments)
        keywords = {key: resolved(a, values) for key, a in call.keywords}
        values[call.name] = built.create_node(
            "call_function", operator_named(call.operator), arguments, keywords, name=call.name
        )
    built.output(tuple(values[name] for name in graph.outputs))
    return fx.GraphModule(root, built)


def build_program(graph: Graph, seed: int = 0) -> Program:
    """The program of a graph, with weights drawn from a seed.

    Raises:
        ValueError: it calls an operator that does not exist.
        InputError: an operator does not take its operands.
    """
    module = build_module(graph, seed)
    inputs = draw_inputs(graph, seed)
    names = [leaf.name for leaf in graph.inputs]
    outputs = [f"output_{i}" for i in range(len(graph.outputs))]
    if not graph.dynamic_names():
        return Program.from_graph_module(module, inputs, input_names=names, output_names=outputs)
    axes = tuple({i: s for i, s in enumerate(leaf.shape) if isinstance(s, str)} for leaf in graph.inputs)
    return capture_torch(module.eval(), inputs, dynamic_shapes=axes, input_names=names)


def graph_of(program: Program) -> Graph:
    """A program as a graph.

    Weights of up to 4,096 elements keep their values; of larger ones the shape is kept.

    Raises:
        InputError: it has branches or loops, or an argument that a graph cannot hold.
    """
    dims = {symbol: name for symbol, name in program.symbols.items() if symbol.isidentifier()}
    sizes: dict[str, int] = {}
    leaves, calls = [], []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            value = node.meta["val"]
            shape = tuple(_size(s, dims, sizes, node) for s in value.shape)
            integers = not value.dtype.is_floating_point
            leaves.append(
                Leaf(node.name, shape, _name(value.dtype), values="integers" if integers else "normal")
            )
        elif node.op == "get_attr":
            leaves.append(_weight(node, program))
        elif node.op == "call_function":
            keywords = tuple(sorted((key, _from_fx(a, node)) for key, a in node.kwargs.items()))
            arguments = tuple(_from_fx(a, node) for a in node.args)
            calls.append(Call(node.name, _operator_name(node), arguments, keywords))
    outputs = tuple(node.name for node in program.output_nodes)
    return Graph(tuple(leaves), tuple(calls), outputs, tuple(sorted(sizes.items())))


def _weight(node: fx.Node, program: Program) -> Leaf:
    tensor = program.constant(node).detach()
    trainable = isinstance(program.constant(node), torch.nn.Parameter)
    small = tensor.numel() <= _LARGEST_GIVEN and not tensor.is_complex()
    integers = not tensor.dtype.is_floating_point
    return Leaf(
        node.name,
        tuple(tensor.shape),
        _name(tensor.dtype),
        role="weight" if trainable else "constant",
        values="integers" if integers else "normal",
        given=tuple(tensor.flatten().tolist()) if small else None,
    )


def _size(size: Any, dims: Mapping[str, str], sizes: dict[str, int], node: fx.Node) -> int | str:
    if isinstance(size, int):
        return size
    name = dims.get(str(size))
    if name is None:
        raise InputError(f"an axis of size {size} is not a dimension of its own", node=node.name)
    sizes[name] = int(size.node.hint)
    return name


def _operator_name(node: fx.Node) -> str:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    name = getattr(target, "__name__", "")
    if getattr(operator, name, None) is target:
        return f"operator.{name}"
    raise InputError(f"{target} cannot stand in a graph of the fuzzer", node=node.name)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _from_fx(value: Any, node: fx.Node) -> Argument:
    if isinstance(value, fx.Node):
        return Ref(value.name)
    if isinstance(value, (list, tuple)):
        return tuple(_from_fx(item, node) for item in value)
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format, torch.device)):
        return TorchConstant(str(value).removeprefix("torch."))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"an argument of type {type(value).__name__} cannot stand in a graph", node=node.name)
