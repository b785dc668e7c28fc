"""Mutations of single protobuf fields: numbers at their extremes, types, data of a wrong length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from benchmarks.onnx_mutations.catalogue import choose, mutation

EXTREME = (-(2**63), -(2**31), -5, -1, 0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)


def graphs(model: onnx.ModelProto) -> Iterator[GraphProto]:
    """The main graph and every subgraph."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]


def nodes(model: onnx.ModelProto) -> list[NodeProto]:
    """Every node, in subgraphs and functions too."""
    found = [n for g in graphs(model) for n in g.node]
    return found + [n for f in model.functions for n in f.node]


def tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """Every initialiser and tensor attribute."""
    found = [t for g in graphs(model) for t in g.initializer]
    return found + [a.t for n in nodes(model) for a in n.attribute if a.type == AttributeProto.TENSOR]


def _attributes(model: onnx.ModelProto) -> list[AttributeProto]:
    return [a for n in nodes(model) for a in n.attribute]


@mutation(weight=2)
def tensor_dtype(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    tensor = choose(random, tensors(model))
    tensor.data_type = random.choice(
        (0, 1, 2, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 22, 23, 24, 25, 26, 99, 2**31 - 1, -1)
    )
    return model


@mutation(weight=3)
def tensor_dims(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    tensor = choose(random, tensors(model))
    dims = list(tensor.dims) or [1]
    kind = random.choice(("extreme", "overflow", "permuted", "dropped", "added", "many"))
    if kind == "extreme":
        dims[random.randrange(len(dims))] = random.choice(EXTREME)
    elif kind == "overflow":
        dims = [2**32, 2**32, *dims] if random.random() < 0.5 else [2**33, 2**31, 0]
    elif kind == "permuted":
        random.shuffle(dims)
    elif kind == "dropped":
        dims.pop()
    elif kind == "added":
        dims.insert(random.randrange(len(dims) + 1), random.choice((1, 2, 0)))
    else:
        dims = [1] * random.choice((9, 70, 5000)) + dims
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return model


@mutation(weight=2)
def tensor_data(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Data too short, too long, in the wrong field, in two fields, or absent."""
    tensor = choose(random, [t for t in tensors(model) if t.data_location != TensorProto.EXTERNAL])
    raw = numpy_helper.to_array(tensor).tobytes()
    kind = random.choice(("short", "long", "absent", "both", "wrong", "special"))
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    if kind == "short":
        tensor.raw_data = raw[: random.randrange(len(raw))]
    elif kind == "long":
        tensor.raw_data = raw + random.randbytes(random.choice((1, 4, 1000)))
    elif kind == "both":
        tensor.raw_data = raw
        tensor.float_data.extend([1.0] * random.choice((1, 4)))
    elif kind == "wrong":
        tensor.int64_data.extend(
            random.choice(EXTREME) for _ in range(random.choice((1, len(raw) // 4 or 1)))
        )
    elif kind == "special":
        tensor.raw_data = (random.choice((b"\xff", b"\x7f\x80\x00\x00"[::-1], b"\x00")) * len(raw))[
            : len(raw)
        ]
    return model


@mutation(weight=4)
def shape_values(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """An integer constant (a shape, an axis, a count) gets an extreme entry."""
    tensor = choose(random, [t for t in tensors(model) if t.data_type == TensorProto.INT64])
    array = numpy_helper.to_array(tensor).copy()
    if array.size:
        array.reshape(-1)[random.randrange(array.size)] = random.choice(EXTREME)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@mutation()
def string_tensor(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    tensor = choose(random, tensors(model))
    count = max(1, len(numpy_helper.to_array(tensor).reshape(-1))) if not tensor.external_data else 1
    tensor.CopyFrom(TensorProto(name=tensor.name, data_type=TensorProto.STRING, dims=tensor.dims))
    tensor.string_data.extend([b"\xff\x00text"] * count)
    return model


@mutation(weight=2)
def input_shape(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Shape and type of an input or output."""
    value = choose(random, [*model.graph.input, *model.graph.output])
    kind = random.choice(("extreme", "extreme", "dtype", "none", "rank", "names", "sequence"))
    shape = value.type.tensor_type.shape
    if kind == "extreme" and shape.dim:
        random.choice(shape.dim).dim_value = random.choice(EXTREME)
    elif kind == "dtype":
        value.type.tensor_type.elem_type = random.choice((0, 1, 7, 8, 9, 14, 22, 99, -1))
    elif kind == "none":
        value.ClearField("type")
    elif kind == "rank":
        for _ in range(random.choice((1, 70))):
            shape.dim.add().dim_value = random.choice((1, 2))
    elif kind == "names" and shape.dim:
        name = random.choice(
            ("", "x'); import os #", "class", "N" * 10**5, "s0", "1", "a\x00b", "a + b", "é")
        )
        random.choice(shape.dim).dim_param = name
    else:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    return model


@mutation(weight=2)
def versions(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    kind = random.choice(("ir", "opset", "absent", "twice", "domain", "function"))
    if kind == "ir":
        model.ir_version = random.choice((*EXTREME, 3, 13, 14))
    elif kind == "absent":
        del model.opset_import[:]
    elif kind == "twice":
        model.opset_import.add(domain="", version=random.choice((1, 7, 18, 23)))
    elif kind == "domain":
        model.opset_import[0].domain = random.choice(("com.microsoft", "ai.onnx.ml", "nowhere", "\x00"))
    elif kind == "function" and model.functions:
        imports = random.choice(model.functions).opset_import
        if imports:
            imports[0].version = random.choice(EXTREME)
    else:
        model.opset_import[0].version = random.choice((*EXTREME, 6, 10**9, 28))
    return model


@mutation(weight=4)
def attribute_value(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    attribute = choose(random, [a for a in _attributes(model) if a.type in (1, 2, 3, 6, 7)])
    if attribute.type == AttributeProto.INT:
        attribute.i = random.choice(EXTREME)
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = random.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38))
    elif attribute.type == AttributeProto.STRING:
        attribute.s = random.choice((b"", b"\xff\xfe", b"nonsense", b"x" * 10**6, b"linear"))
    elif attribute.type == AttributeProto.INTS:
        kind = random.choice(("extreme", "empty", "long"))
        if kind == "extreme" and attribute.ints:
            attribute.ints[random.randrange(len(attribute.ints))] = random.choice(EXTREME)
        elif kind == "empty":
            del attribute.ints[:]
        else:
            attribute.ints.extend([random.choice((0, 1, 2))] * random.choice((1, 1000)))
    else:
        attribute.floats.extend([0.0])
    return model


@mutation(weight=3)
def attribute_structure(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """An attribute missing, twice, of another type, of an unknown name, or a reference to nothing."""
    node = choose(random, [n for n in nodes(model) if n.attribute])
    index = random.randrange(len(node.attribute))
    attribute = node.attribute[index]
    kind = random.choice(("missing", "twice", "type", "name", "reference", "untyped", "tensor", "graph"))
    if kind == "missing":
        del node.attribute[index]
    elif kind == "twice":
        node.attribute.add().CopyFrom(attribute)
    elif kind == "type":
        attribute.type = random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14))
    elif kind == "name":
        attribute.name = random.choice(("", "axis", "value", "nonsense", "body", "to"))
    elif kind == "reference":
        name, type_ = attribute.name, attribute.type
        attribute.CopyFrom(
            AttributeProto(name=name, type=type_, ref_attr_name=random.choice(("absent", "", name)))
        )
    elif kind == "untyped":
        attribute.CopyFrom(AttributeProto(name=attribute.name, i=1))
    elif kind == "tensor":
        attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, TensorProto(data_type=1, dims=[2**40])))
    else:
        attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, GraphProto()))
    return model


@mutation(samples=("sparse",), weight=2)
def sparse_fields(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    tensor = model.graph.sparse_initializer[0]
    kind = random.choice(("index", "order", "dims", "count", "type", "empty", "rank"))
    indices = numpy_helper.to_array(tensor.indices).copy()
    if kind == "index":
        indices[random.randrange(3)] = random.choice((12, 13, -1, 2**40, 2**63 - 1))
        tensor.indices.raw_data = indices.tobytes()
    elif kind == "order":
        tensor.indices.raw_data = indices[::-1].tobytes()
    elif kind == "dims":
        tensor.dims[random.randrange(2)] = random.choice(EXTREME)
    elif kind == "count":
        tensor.indices.CopyFrom(numpy_helper.from_array(indices[:2], "w_indices"))
    elif kind == "type":
        tensor.indices.data_type = random.choice((1, 6, 8, 99))
    elif kind == "empty":
        tensor.ClearField(random.choice(("indices", "values", "dims")))
    else:
        tensor.indices.CopyFrom(numpy_helper.from_array(indices.reshape(1, 3), "w_indices"))
    return model
