"""Small files that ask for a lot: memory, steps, depth."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from benchmarks.onnx_mutations.catalogue import mutation

_HUGE = (2**20, 2**31, 2**40, 2**60, 2**62, 2**63 - 1)


def _model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], outputs: list[str]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["a", "b"]) for o in outputs],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@mutation(weight=8, from_scratch=True)
def huge_size(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """One operator whose result is huge, of host values, constants or the input."""
    huge = random.choice(_HUGE)
    kind = random.choice(
        ("ConstantOfShape", "Expand", "Range", "Tile", "Pad", "Reshape", "Resize", "OneHot", "EyeLike",
         "Window",
         "Split", "TopK", "Gather", "Unsqueeze", "Slice", "Concat", "Upsample", "Integers")
    )  # fmt: skip
    weights = {"zero": _ints(0), "one": _ints(1), "huge": _ints(huge), "row": np.ones((1, 4), np.float32)}
    make = helper.make_node
    weights |= {"z": np.array(0, np.int64), "o": np.array(1, np.int64), "h": np.array(huge, np.int64)}
    if kind == "ConstantOfShape":
        nodes = [
            make("ConstantOfShape", ["huge"], ["big"]),
            make("ReduceSum", ["big"], ["s"]),
            make("Add", ["x", "s"], ["y"]),
        ]
    elif kind == "Expand":
        weights["shape"] = _ints(huge, 4)
        nodes = [make("Expand", [random.choice(("x", "row")), "shape"], ["y"])]
    elif kind == "Range":
        nodes = [
            make("Range", ["z", "h", "o"], ["r"]),
            make("Cast", ["r"], ["f"], to=1),
            make("ReduceSum", ["f"], ["y"]),
        ]
    elif kind == "Tile":
        weights["times"] = _ints(huge, random.choice((1, huge)))
        nodes = [make("Tile", [random.choice(("x", "row")), "times"], ["y"])]
    elif kind == "Pad":
        weights["pads"] = _ints(0, huge, 0, random.choice((0, -huge)))
        nodes = [make("Pad", ["x", "pads"], ["y"], mode=random.choice(("constant", "edge", "reflect")))]
    elif kind == "Reshape":
        weights["shape"] = _ints(-1, huge)
        nodes = [make("Reshape", ["x", "shape"], ["y"])]
    elif kind == "Resize":
        weights["sizes"] = _ints(1, huge)
        nodes = [make("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest")]
    elif kind == "OneHot":
        weights["values"] = np.array([0, 1], np.float32)
        nodes = [make("OneHot", ["zero", "huge", "values"], ["y"])]
    elif kind == "EyeLike":
        weights["shape"] = _ints(min(huge, 2**31), min(huge, 2**31))
        nodes = [make("ConstantOfShape", ["shape"], ["c"]), make("EyeLike", ["c"], ["y"])]
    elif kind == "Window":
        nodes = [make(random.choice(("HannWindow", "BlackmanWindow")), ["h"], ["y"])]
    elif kind == "Split":
        nodes = [
            make("Split", ["x"], [f"s{i}" for i in range(20000)], axis=1),
            make("Identity", ["s0"], ["y"]),
        ]
    elif kind == "TopK":
        nodes = [make("TopK", ["x", "huge"], ["y", "i"])]
    elif kind == "Gather":
        weights["indices"] = _ints(huge, -huge)
        nodes = [make("Gather", ["x", "indices"], ["y"], axis=1)]
    elif kind == "Unsqueeze":
        weights["axes"] = _ints(*range(random.choice((60, 5000))))
        nodes = [make("Unsqueeze", ["x", "axes"], ["y"])]
    elif kind == "Slice":
        nodes = [make("Slice", ["x", "zero", "huge", "one", random.choice(("huge", "one"))], ["y"])]
    elif kind == "Concat":
        nodes = [make("Concat", ["x"] * 20000, ["y"], axis=0)]
    elif kind == "Upsample":
        weights["scales"] = np.array([1, float(huge)], np.float32)
        nodes = [make("Resize", ["x", "", "scales"], ["y"], mode="nearest")]
    else:
        weights["big"] = _ints(*[random.choice((1, 1, 10)) for _ in range(64)])
        weights["column"] = _ints(*[huge] * 64).reshape(64, 1)
        nodes = [
            make("Pow", ["big", "column"], ["p"]), make("Add", ["p", "column"], ["q"]),
            make("Cast", ["q"], ["f"], to=1), make("ReduceSum", ["f"], ["s"]), make("IsNaN", ["s"], ["nan"]),
            make("Cast", ["nan"], ["y"], to=1),
        ]  # fmt: skip
    return _model(nodes, weights, ["y"])


@mutation(weight=2, from_scratch=True)
def doubling(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Each node makes its operand twice as large, 60 times over, from a constant or the input."""
    start = random.choice(("x", "row", "count"))
    nodes = [helper.make_node("Identity", [start], ["v0"])]
    for i in range(60):
        operands, attributes = {"Concat": ([f"v{i}", f"v{i}"], {"axis": 0}), "Tile": ([f"v{i}", "two"], {})}[
            random.choice(("Concat", "Tile") if start != "count" else ("Concat",))
        ]
        nodes.append(
            helper.make_node("Concat" if attributes else "Tile", operands, [f"v{i + 1}"], **attributes)
        )
    nodes.append(helper.make_node("Cast", ["v60"], ["y"], to=1))
    return _model(
        nodes, {"row": np.ones((1, 4), np.float32), "two": _ints(2, 1), "count": _ints(1, 2)}, ["y"]
    )


@mutation(weight=2, from_scratch=True)
def endless_loop(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Loops with huge trip counts, without one, nested, and with collected outputs."""
    trips = random.choice((0, -1, 100, 4096, 5000, 2**31, 2**60))
    depth = random.choice((1, 2, 4)) if trips != 4096 else random.choice((2, 4))
    boolean, number = TensorProto.BOOL, TensorProto.INT64

    def body(level: int) -> onnx.GraphProto:
        state = f"v{level}"
        nodes = [helper.make_node("Identity", [f"go{level}"], [f"on{level}"])]
        if level + 1 < depth:
            inner = helper.make_node("Loop", ["trips", "yes", state], [f"r{level}"], body=body(level + 1))
        else:
            inner = helper.make_node("Neg", [state], [f"r{level}"])
        return helper.make_graph(
            [*nodes, inner],
            f"body{level}",
            [
                helper.make_tensor_value_info(f"i{level}", number, []),
                helper.make_tensor_value_info(f"go{level}", boolean, []),
                helper.make_tensor_value_info(state, TensorProto.FLOAT, ["n", 4]),
            ],
            [
                helper.make_tensor_value_info(f"on{level}", boolean, []),
                helper.make_tensor_value_info(f"r{level}", TensorProto.FLOAT, ["n", 4]),
            ],
        )

    count = random.choice(("trips", "trips", ""))
    loop = helper.make_node("Loop", [count, "yes", "x"], ["y"], body=body(0))
    return _model([loop], {"trips": np.array(trips, np.int64), "yes": np.array(True)}, ["y"])


@mutation(weight=2, from_scratch=True)
def deep_subgraphs(random: Random, model: onnx.ModelProto, folder: Path) -> bytes:
    """``If`` in ``If`` in ``If``."""
    depth = random.choice((3, 10, 20, 30, 40, 200))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "leaf", [], [output]
    ).SerializeToString()
    branch = AttributeProto(name="then_branch", type=AttributeProto.GRAPH).SerializeToString()
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "else", [], [output])
    other.output[0].name = "z"
    other_branch = helper.make_attribute("else_branch", other).SerializeToString()
    shell = onnx.GraphProto(name="level", output=[output]).SerializeToString()
    # Protobuf's library writes no message that is too deep for it to read: the bytes are joined here.
    for level in range(depth):
        node = helper.make_node("If", ["yes"], ["y"])
        body = node.SerializeToString() + _field(5, branch + _field(6, graph)) + _field(5, other_branch)
        graph = (shell if level + 1 < depth else b"") + _field(1, body)
    built = _model([], {"yes": np.array(True)}, ["y"])
    return built.SerializeToString() + _field(7, graph)


def _field(number: int, data: bytes) -> bytes:
    """A protobuf field of length-delimited type."""
    length, size = b"", len(data)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


@mutation(weight=2, from_scratch=True)
def function_tower(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Functions that each call the one below, once or several times: 2^40 nodes when expanded."""
    depth, times = random.choice(((10, 1), (300, 1), (2000, 1), (5, 3), (12, 2), (40, 2), (8, 10)))
    built = _model([helper.make_node("f0", ["x"], ["y"], domain="local")], {}, ["y"])
    built.opset_import.add(domain="local", version=1)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for level in range(depth):
        last = level + 1 == depth
        nodes = [
            helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"])
            if last
            else helper.make_node(f"f{level + 1}", [f"v{i}"], [f"v{i + 1}"], domain="local")
            for i in range(times)
        ]
        function = helper.make_function("local", f"f{level}", ["v0"], [f"v{times}"], nodes, opsets)
        built.functions.append(function)
    return built


@mutation(from_scratch=True)
def long_chain(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Many nodes: one after the other, or on shapes."""
    count = random.choice((300, 100_000))
    operator = random.choice(("Neg", "Shape"))
    if operator == "Shape":
        nodes = [helper.make_node("Shape", ["x"], ["v0"])]
        nodes += [helper.make_node("Add", [f"v{i}", "one"], [f"v{i + 1}"]) for i in range(count)]
        nodes.append(helper.make_node("Cast", [f"v{count}"], ["y"], to=1))
    else:
        nodes = [helper.make_node("Identity", ["x"], ["v0"])]
        nodes += [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(count - 1)]
        nodes.append(helper.make_node("Neg", [f"v{count - 1}"], ["y"]))
    return _model(nodes, {"one": _ints(1)}, ["y"])


@mutation(from_scratch=True)
def many_of_a_kind(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Thousands of initialisers, inputs, outputs, dimensions or operator sets."""
    kind = random.choice(
        ("initializers", "same name", "outputs", "inputs", "dimensions", "opsets", "metadata")
    )
    built = _model([helper.make_node("Neg", ["x"], ["y"])], {}, ["y"])
    if kind in ("initializers", "same name"):
        for i in range(3000):
            name = f"w.{i}" if kind == "initializers" else f"w{'/' * (i + 1)}"
            built.graph.initializer.append(numpy_helper.from_array(_ints(i), name))
    elif kind == "outputs":
        built.graph.output.extend([built.graph.output[0]] * 300)
    elif kind == "inputs":
        for i in range(300):
            built.graph.input.append(helper.make_tensor_value_info(f"i{i}", 1, [f"d{i}"]))
    elif kind == "dimensions":
        built.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, [f"d{i}" for i in range(40)]))
    elif kind == "opsets":
        built.opset_import.extend([helper.make_opsetid(f"d{i}", i) for i in range(3000)])
    else:
        for i in range(3000):
            built.metadata_props.add(key=f"k{i}", value="v" * 100)
    return built


@mutation(from_scratch=True)
def demanding_sizes(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Conditions on dynamic sizes that no size, or only an odd one, satisfies."""
    kind = random.choice(("square", "impossible", "cubic", "many"))
    make = helper.make_node
    weights = {"shape": _ints(7, -1), "z": np.array(0, np.int64), "zero": _ints(0), "huge": _ints(10**6 + 3)}
    if kind == "many":
        nodes = [make("Reshape", ["x", "shape"], ["a"]), make("Reshape", ["a", "shape"], ["y"])]
        weights["shape"] = _ints(random.choice((7, 997, 10**6 + 3)), -1)
    else:
        nodes = [make("Shape", ["x"], ["s"]), make("Slice", ["s", "zero", "one"], ["n"])]
        weights["one"] = _ints(1)
        power = {"square": 1, "impossible": 0, "cubic": 2}[kind]
        for i in range(power):
            nodes.append(make("Mul", ["n", "n"], [f"n{i}"]))
        last = f"n{power - 1}" if power else "n"
        nodes += [make("Add", [last, "one"], ["m"]), make("Concat", ["m", "huge"], ["t"], axis=0)]
        nodes.append(make("Reshape", ["x", "t"], ["y"]))
    return _model(nodes, weights, ["y"])
