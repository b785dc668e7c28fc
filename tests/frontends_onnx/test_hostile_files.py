"""Files that somebody made to do harm: each ends in an error of its own, soon and without much memory."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.onnx.limits import DEEPEST_CALLS, LARGEST_SPARSE, MOST_NODES
from graphopt.verification import OnnxRuntimeRunner, verify


def _model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17, "local": 1]>\n' + text)


def _product() -> onnx.ModelProto:
    return _model("g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }")


def _of(nodes: list[NodeProto], **constants: object) -> onnx.ModelProto:
    model = _model("g (float[N, 4] x) => (float[a, b] y) { y = Neg(x) }")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def _refused(source: object, code: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        import_onnx(source)  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value
    assert what in caught.value.message


# -- fields --------------------------------------------------------------------------------------


def test_names_that_are_no_text(tmp_path: Path) -> None:
    data = _product().SerializeToString().replace(b"Mul", b"M\xffl")
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    _refused(path, "GO-3003", "is not text")


@pytest.mark.parametrize("element_type", [0, 99])
def test_element_types_that_do_not_exist(element_type: int) -> None:
    model = _product()
    model.graph.initializer[0].data_type = element_type
    _refused(model, "GO-3003", f"tensor 'w' has element type {element_type}")


@pytest.mark.parametrize(
    ("dims", "code", "what"),
    [([-4], "GO-3003", "negative dimension"), ([1] * 70 + [4], "GO-3006", "has 71 axes")],
)
def test_dimensions_that_cannot_be(dims: list[int], code: str, what: str) -> None:
    model = _product()
    model.graph.initializer[0].dims[:] = dims
    _refused(model, code, what)


def test_an_attribute_given_twice() -> None:
    model = _model("g (float[N, 4] x) => (float[N, 4] y) { y = LeakyRelu <alpha = 0.1> (x) }")
    model.graph.node[0].attribute.add().CopyFrom(helper.make_attribute("alpha", 0.7))
    _refused(model, "GO-3003", "LeakyRelu has attribute 'alpha' twice")


@pytest.mark.parametrize(
    "name", ["class", "None", "training", "1", "a.b..c", "'; import os", "é²", "x" * 10**5]
)
def test_weights_may_have_any_name(name: str) -> None:
    model = _product()
    model.graph.initializer[0].name = model.graph.node[0].input[1] = name
    x = torch.randn(2, 4)
    assert torch.equal(import_onnx(model)(x)[0], x * torch.tensor([1.0, 2.0, 3.0, 4.0]))


# -- external data -------------------------------------------------------------------------------


def _external(folder: Path, location: str, **entries: str) -> Path:
    model = _product()
    weight = model.graph.initializer[0]
    weight.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]))
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("location", "what"),
    [
        ("w\0.bin", "is not a file name"),
        ("a" * 5000, "cannot be found: File name too long"),
        ("/dev/zero", "is an absolute path"),
        ("C:\\w.bin", "is an absolute path"),
        ("\\\\host\\share", "is an absolute path"),
        (".", "is not a regular file"),
        ("", "names no file"),
    ],
)
def test_places_that_are_no_data_file(tmp_path: Path, location: str, what: str) -> None:
    _refused(_external(tmp_path, location), "GO-3004", what)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.bin")
    _refused(_external(tmp_path, "w.bin"), "GO-3004", "is not a regular file")


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "w.bin").symlink_to("w.bin")
    _refused(_external(tmp_path, "w.bin"), "GO-3004", "lead in a circle")


@pytest.mark.parametrize("value", ["-1", "9" * 5000, "1e3", " 8", "٣"])
def test_offsets_that_are_no_numbers(tmp_path: Path, value: str) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "w.bin")
    _refused(_external(tmp_path, "w.bin", offset=value), "GO-3004", "has a malformed offset")


def test_an_entry_that_is_given_twice(tmp_path: Path) -> None:
    model = onnx.load(str(_external(tmp_path, "w.bin")), load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="../w.bin")
    path = tmp_path / "twice.onnx"
    path.write_bytes(model.SerializeToString())
    _refused(path, "GO-3004", "says something twice")


@pytest.mark.parametrize("location", ["../w.bin", "w.bin"])
def test_external_data_in_functions_stays_in_the_folder(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for place, value in ((tmp_path, 7.0), (folder, 2.0)):
        np.full(4, value, np.float32).tofile(place / "w.bin")
    model = _model(
        """
        g (float[N, 4] x) => (float[N, 4] y) { y = local.scaled(x) }
        <domain: "local", opset_import: ["": 17]>
        scaled (v) => (r) {
            k = Constant <value = float[4] {0, 0, 0, 0}> ()
            r = Mul(v, k)
        }"""
    )
    tensor = model.functions[0].node[0].attribute[0].t
    tensor.CopyFrom(TensorProto(name="k", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL))
    tensor.external_data.add(key="location", value=location)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    if location.startswith(".."):
        _refused(path, "GO-3004", "leaves the model's folder")
    else:
        assert import_onnx(path)(torch.ones(1, 4))[0].tolist() == [[2.0] * 4]


# -- sparse initialisers ---------------------------------------------------------------------------


def _sparse(indices: list[object], dims: list[int]) -> onnx.ModelProto:
    model = _model("g (float[N, 4] x) => (float[N, 3] y) { y = MatMul(x, w) }")
    values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), "w")
    places = numpy_helper.from_array(np.array(indices, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
    return model


@pytest.mark.parametrize("indices", [[1, 11], [[0, 1], [3, 2]]])
def test_sparse_initialisers_become_dense(indices: list[object]) -> None:
    program = import_onnx(_sparse(indices, [4, 3]))
    expected = torch.zeros(4, 3)
    expected[0, 1], expected[3, 2] = 1.5, -2.0
    assert torch.equal(program.constants["w"], expected)


def test_sparse_indices_outside_the_shape() -> None:
    model = _sparse([1, 11], [4, 3])
    model.graph.sparse_initializer[0].indices.raw_data = np.array([1, 12], np.int64).tobytes()
    _refused(model, "GO-3003", "")
    _refused(_sparse([1, 2], [2**20, LARGEST_SPARSE]), "GO-3006", "sparse tensor 'w' has shape")


# -- sizes -----------------------------------------------------------------------------------------


_LARGE = 2**40


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Expand", ["row", "shape"], ["y"]),
        helper.make_node("Tile", ["row", "shape"], ["y"]),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
    ],
)
def test_huge_results_take_no_memory_while_importing(node: NodeProto) -> None:
    program = import_onnx(_of([node], row=np.ones((1, 4), np.float32), shape=[_LARGE, 4]))
    assert program.signature.outputs[0].shape[0] == _LARGE


def test_huge_shapes_are_not_computed_while_importing() -> None:
    """A power of Python's integers, and an outer product of two lists, would never end."""
    nodes = [
        helper.make_node("Pow", ["row", "column"], ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    ones, powers = np.ones(200, np.int64), np.full((200, 1), 2**60)
    program = import_onnx(_of(nodes, row=ones, column=powers))
    assert program.signature.outputs[0].shape == (200, 200)


def test_inputs_larger_than_memory() -> None:
    model = _model("g (float[1099511627776] x) => (float[1099511627776] y) { y = Neg(x) }")
    _refused(model, "GO-3006", "elements")
    sizes = ", ".join(f"d{i}" for i in range(40))
    _refused(_model(f"g (float[{sizes}] x) => (float[{sizes}] y) {{ y = Neg(x) }}"), "GO-3006", "elements")


def test_more_axes_than_anything_supports() -> None:
    model = _of([helper.make_node("Unsqueeze", ["x", "axes"], ["y"])], axes=np.arange(5000))
    _refused(model, "GO-3006", "makes a tensor of 5002 axes")


def test_more_parts_than_elements() -> None:
    outputs = ["y", *(f"s{i}" for i in range(5000))]
    _refused(_of([helper.make_node("Split", ["x"], outputs, axis=1)]), "GO-3006", "makes 5001 parts")


def test_cropping_more_than_there_is() -> None:
    model = _of([helper.make_node("Pad", ["x", "pads"], ["y"])], pads=[0, 9, 0, -9])
    _refused(model, "GO-3006", "crops more from axis 1 than its 4 elements")


# -- steps and depth -------------------------------------------------------------------------------


def test_more_nodes_than_are_imported() -> None:
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(MOST_NODES + 1)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    _refused(_of(nodes), "GO-3006", f"has more than {MOST_NODES} nodes")


def test_loops_in_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """4096 times 4096 steps are refused when their sum is reached, not when they are done."""
    monkeypatch.setattr("graphopt.frontends.onnx.interpreter.MOST_NODES", 300)
    model = _model(
        """
        g (float[N, 4] x) => (float[N, 4] y) <int64 many = {4000}, bool yes = {1}> {
            y = Loop (many, yes, x) <
                body = outer (int64 i, bool go, float[N, 4] v) => (bool go, float[N, 4] r) {
                    r = Loop (many, yes, v) <
                        body = inner (int64 j, bool on, float[N, 4] u) => (bool on, float[N, 4] u) { }
                    >
                }
            >
        }"""
    )
    _refused(model, "GO-3006", "comes after 300 other nodes")


def _tower(calls: list[list[str]]) -> onnx.ModelProto:
    """Functions f0, f1, …, each of which calls those named, one after the other."""
    model = _of([helper.make_node("f0", ["x"], ["y"], domain="local")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for level, names in enumerate(calls):
        nodes = [
            helper.make_node(n, [f"v{i}"], [f"v{i + 1}"], domain="" if n == "Neg" else "local")
            for i, n in enumerate(names)
        ]
        function = helper.make_function("local", f"f{level}", ["v0"], [f"v{len(names)}"], nodes, opsets)
        model.functions.append(function)
    return model


def test_functions_that_call_themselves() -> None:
    _refused(_tower([["f0"]]), "GO-3003", "function local.f0 calls itself")
    _refused(_tower([["f1"], ["Neg", "f0"]]), "GO-3003", "calls itself")


def test_a_tower_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    program = import_onnx(_tower([["f1", "f1"], ["f2"], ["Neg", "Neg", "Neg"]]))
    assert len(program.operator_nodes()) == 6
    high = [[f"f{i + 1}"] for i in range(DEEPEST_CALLS + 5)] + [["Neg"]]
    _refused(_tower(high), "GO-3006", f"nested more than {DEEPEST_CALLS} deep")
    monkeypatch.setattr("graphopt.frontends.onnx.interpreter.MOST_NODES", 300)
    doubling = [[f"f{i + 1}"] * 2 for i in range(40)] + [["Neg"]]
    _refused(_tower(doubling), "GO-3006", "comes after 300 other nodes")


def test_a_function_that_is_defined_twice() -> None:
    model = _tower([["Neg"]])
    model.functions.add().CopyFrom(model.functions[0])
    _refused(model, "GO-3003", "defines function local.f0 twice")


def test_deeply_nested_subgraphs() -> None:
    """A message in memory may be deeper than protobuf reads from a file."""
    model = _of([helper.make_node("If", ["yes"], ["y"])], yes=True)
    node = model.graph.node[0]
    for level in range(DEEPEST_CALLS + 5):
        attribute = node.attribute.add(name="then_branch", type=AttributeProto.GRAPH)
        attribute.g.name = f"level{level}"
        node = attribute.g.node.add(op_type="If", input=["yes"], output=["y"])
    _refused(model, "GO-3006", f"nested more than {DEEPEST_CALLS} deep")


def test_attributes_handed_through_functions_keep_their_type(tmp_path: Path) -> None:
    """``value_float`` stays a float whatever the function's own attribute is called."""
    model = _model(
        """
        g (float[N, 4] x) => (float[N, 4] y) { y = local.outer <gain = 0.5> (x) }
        <domain: "local", opset_import: ["": 17, "local": 1]>
        outer <gain> (v) => (r) { r = local.scaled <alpha: float = @gain> (v) }
        <domain: "local", opset_import: ["": 17]>
        scaled <alpha> (v) => (r) {
            factor = Constant <value_float: float = @alpha> ()
            r = Mul(v, factor)
        }"""
    )
    verify(import_onnx(model), OnnxRuntimeRunner(model.SerializeToString())).raise_if_failed()
    del model.graph.node[0].attribute[:]
    _refused(model, "GO-3006", "has no value that is a tensor or a number")
