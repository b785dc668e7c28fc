"""Mutations of how nodes and values hang together: names, order, subgraphs, functions."""

from __future__ import annotations

from pathlib import Path
from random import Random

import onnx
from onnx import AttributeProto, helper

from benchmarks.onnx_mutations.catalogue import choose, mutation
from benchmarks.onnx_mutations.fields import graphs, nodes

_ODD_NAMES = (
    "", " ", "class", "None", "forward", "training", "__class__", "_parameters", "a..b", ".", "a.", "1", "'",
    '"; import os; "', "x\ny", "\x00", "é²", "x" * 10**5, "/".join("a" * 2000), "../../etc/passwd", "self",
    "weights.bin",
)  # fmt: skip


@mutation(weight=3)
def name_replaced(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """One use of a name becomes another name of the model, an odd one, or none."""
    node = choose(random, [n for n in nodes(model) if n.input or n.output])
    names = [*node.input, *node.output]
    other = [o for n in nodes(model) for o in (*n.input, *n.output)]
    index = random.randrange(len(names))
    new = random.choice((random.choice(other), random.choice(other), "nowhere", random.choice(_ODD_NAMES)))
    if index < len(node.input):
        node.input[index] = new
    else:
        node.output[index - len(node.input)] = new
    return model


@mutation(weight=4)
def name_odd_everywhere(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """A value is renamed consistently to something strange; the model stays valid."""
    graph = model.graph
    old = choose(
        random, [t.name for t in graph.initializer] + [v.name for v in (*graph.input, *graph.output)]
    )
    new = random.choice(_ODD_NAMES)
    for node in nodes(model):
        for field in (node.input, node.output):
            field[:] = [new if n == old else n for n in field]
    for item in (*graph.initializer, *graph.input, *graph.output):
        item.name = new if item.name == old else item.name
    return model


@mutation()
def node_names(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    name = random.choice(_ODD_NAMES)
    for node in nodes(model):
        node.name = name
    return model


@mutation()
def names_swapped(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    first, second = choose(random, nodes(model)), choose(random, nodes(model))
    if first.input and second.input:
        i, j = random.randrange(len(first.input)), random.randrange(len(second.input))
        first.input[i], second.input[j] = second.input[j], first.input[i]
    return model


@mutation(weight=2)
def order(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Nodes shuffled, doubled, removed, or in a cycle."""
    graph = choose(random, [g for g in graphs(model) if g.node])
    kind = random.choice(("shuffled", "doubled", "removed", "cycle", "self"))
    if kind == "shuffled":
        shuffled = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
        random.shuffle(shuffled)
        del graph.node[:]
        graph.node.extend(shuffled)
    elif kind == "doubled":
        graph.node.add().CopyFrom(random.choice(graph.node))
    elif kind == "removed":
        del graph.node[random.randrange(len(graph.node))]
    elif kind == "cycle":
        first, last = graph.node[0], graph.node[-1]
        if first.input and last.output:
            first.input[0] = last.output[0]
    else:
        node = random.choice(graph.node)
        if node.input and node.output:
            node.input[0] = node.output[0]
    return model


@mutation(weight=2)
def interface(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Inputs, outputs and initialisers missing, doubled, or returned as they are."""
    graph = model.graph
    kind = random.choice(
        ("input", "output", "initializer", "no outputs", "twice", "passed", "weight", "shadow")
    )
    if kind == "input":
        del graph.input[:1]
    elif kind == "output":
        del graph.output[:1]
    elif kind == "initializer" and graph.initializer:
        del graph.initializer[random.randrange(len(graph.initializer))]
    elif kind == "no outputs":
        del graph.output[:]
    elif kind == "twice":
        field = random.choice((graph.input, graph.output, graph.initializer))
        if field:
            field.add().CopyFrom(field[0])  # type: ignore[arg-type]
    elif kind == "passed":
        graph.output.add().CopyFrom(graph.input[0])
    elif kind == "weight" and graph.initializer:
        weight = random.choice(graph.initializer)
        graph.output.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    elif graph.initializer:
        # An initialiser that is an input too: its value is a default that the caller may replace.
        weight = random.choice(graph.initializer)
        graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims)))
    return model


@mutation(weight=2)
def operator_replaced(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    node = choose(random, nodes(model))
    if random.random() < 0.2:
        node.domain = random.choice(("com.microsoft", "local", "nowhere", "ai.onnx.ml", "ai.onnx"))
        return model
    operators = (
        "Add Relu Reshape Shape Identity If Loop Scan Constant Gather Concat Slice Tile Expand Pad Resize "
        "Range ConstantOfShape Conv MatMul Transpose Cast NonZero Unique TopK Split LSTM OneHot Einsum "
        "DynamicQuantizeLinear SequenceConstruct SequenceAt Optional StringNormalizer "
        "ImageDecoder RandomNormal Bernoulli Where Det"
    )
    node.op_type = random.choice(operators.split())
    return model


@mutation(weight=3)
def node_extra(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Operands added, emptied, dropped or exchanged."""
    node = choose(random, [n for n in nodes(model) if n.input])
    kind = random.choice(("added", "emptied", "dropped", "exchanged", "output", "many"))
    if kind == "added":
        node.input.append(random.choice(node.input))
    elif kind == "emptied":
        node.input[random.randrange(len(node.input))] = ""
    elif kind == "dropped":
        node.input.pop()
    elif kind == "exchanged":
        order_ = list(node.input)
        random.shuffle(order_)
        node.input[:] = order_
    elif kind == "output":
        node.output.append("surplus")
    else:
        node.input.extend([node.input[0]] * 2000)
    return model


@mutation(samples=("control_flow",), weight=3)
def subgraphs(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Scopes broken: inner values read from outside, inputs and outputs of bodies added or dropped."""
    inner = choose(random, list(graphs(model))[1:])
    kind = random.choice(("leak", "inputs", "outputs", "shadow", "empty", "more", "swapped", "initializer"))
    if kind == "leak":
        model.graph.node[-1].input[-1] = choose(random, [o for n in inner.node for o in n.output])
    elif kind == "inputs" and inner.input:
        inner.input.pop()
    elif kind == "outputs":
        inner.output.pop()
    elif kind == "shadow":
        inner.node[0].output[0] = "x"
    elif kind == "empty":
        del inner.node[:]
    elif kind == "more":
        inner.output.add().CopyFrom(inner.output[-1])
    elif kind == "swapped":
        first, second = random.sample([a for n in model.graph.node for a in n.attribute], 2)
        first.g.name, second.g.name = second.g.name, first.g.name
        keep = onnx.GraphProto.FromString(first.g.SerializeToString())
        first.g.CopyFrom(second.g)
        second.g.CopyFrom(keep)
    else:
        inner.initializer.add().CopyFrom(model.graph.initializer[0])
    return model


@mutation(samples=("functions",), weight=3)
def function_calls(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Functions that call themselves or each other, twice defined, with attributes that do not exist."""
    scaled, twice = model.functions
    kind = random.choice(
        (
            "itself",
            "mutual",
            "defined twice",
            "reference",
            "no output",
            "input",
            "unknown",
            "opset",
            "overload",
            "shadow",
        )
    )
    call = [n for n in twice.node if n.op_type == "scaled"][0]
    if kind == "itself":
        call.op_type = "twice"
    elif kind == "mutual":
        scaled.node.insert(0, helper.make_node("twice", ["v"], ["again"], domain="local", gain=1.0))
        scaled.opset_import.add(domain="local", version=1)
    elif kind == "defined twice":
        model.functions.add().CopyFrom(random.choice(model.functions))
    elif kind == "reference":
        attribute = choose(random, [a for n in nodes(model) for a in n.attribute if a.ref_attr_name])
        attribute.ref_attr_name = random.choice(("absent", "v", "alpha", "gain"))
    elif kind == "no output":
        random.choice((scaled, twice)).output[:] = random.choice(([], ["nowhere"], ["r", "r"]))
    elif kind == "input":
        random.choice((scaled, twice)).input[:] = random.choice(
            ([], ["v"], ["v", "v"], ["v", "weight", "more"])
        )
    elif kind == "unknown":
        call.op_type = "absent"
    elif kind == "opset":
        del scaled.opset_import[:]
    elif kind == "overload":
        call.overload = "other"
    else:
        scaled.name, scaled.domain = "Mul", ""
    return model


@mutation(samples=("functions",))
def function_attribute_missing(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    call = choose(random, [n for n in nodes(model) if n.domain == "local"])
    kind = random.choice(("missing", "type", "extra"))
    if kind == "missing":
        del call.attribute[:]
    elif kind == "type" and call.attribute:
        call.attribute[0].CopyFrom(
            AttributeProto(name=call.attribute[0].name, type=AttributeProto.STRING, s=b"x")
        )
    else:
        call.attribute.append(helper.make_attribute("surplus", [1, 2]))
    return model
