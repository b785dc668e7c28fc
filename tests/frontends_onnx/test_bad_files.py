"""Files that cannot be imported: each fails with its code, naming what is wrong."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import InputError, UsageError
from graphopt.frontends.onnx import import_onnx


def _model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 8, opset_import: ["": 17]>\n' + text)


def _linear() -> onnx.ModelProto:
    return _model("g (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }")


def _refused(source: object, code: str) -> InputError:
    with pytest.raises(InputError) as caught:
        import_onnx(source)  # type: ignore[arg-type]
    assert caught.value.code == code, caught.value
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert "none.onnx does not exist" in _refused(tmp_path / "none.onnx", "GO-3001").message


def test_folder(tmp_path: Path) -> None:
    assert "is not a file" in _refused(tmp_path, "GO-3001").message


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    assert "is empty" in _refused(path, "GO-3003").message


@pytest.mark.parametrize(
    "content", [b"GIF89a not a model at all", b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04" * 9]
)
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    _refused(path, "GO-3002")


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = _linear().SerializeToString()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated" in _refused(path, "GO-3003").message


def test_invalid_graph() -> None:
    model = _linear()
    model.graph.node[0].input[1] = "nowhere"
    assert "nowhere" in _refused(model, "GO-3003").message


def _with_external_weight(folder: Path, location: str, length: int | None = None) -> Path:
    model = _linear()
    weight = model.graph.initializer[0]
    weight.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4]))
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    if length is not None:
        weight.external_data.add(key="length", value=str(length))
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_read(tmp_path: Path) -> None:
    path = _with_external_weight(tmp_path, "w.bin", 16)
    np.array([1, 2, 3, 4], np.float32).tofile(tmp_path / "w.bin")
    program = import_onnx(path)
    (weight,) = program.constants.values()
    assert weight.tolist() == [1, 2, 3, 4]


def test_external_data_missing(tmp_path: Path) -> None:
    error = _refused(_with_external_weight(tmp_path, "w.bin"), "GO-3004")
    assert "'w.bin' of tensor 'w' does not exist" in error.message


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "w.bin")
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    assert "leaves the model's folder" in _refused(_with_external_weight(inner, location), "GO-3004").message


def test_external_data_absolute(tmp_path: Path) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "w.bin")
    path = _with_external_weight(tmp_path, str(tmp_path / "w.bin"))
    assert "absolute path" in _refused(path, "GO-3004").message


def test_external_data_behind_a_symbolic_link_that_leaves(tmp_path: Path) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "secret.bin")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "w.bin").symlink_to(tmp_path / "secret.bin")
    assert "leaves the model's folder" in _refused(_with_external_weight(inner, "w.bin"), "GO-3004").message


def test_external_data_truncated(tmp_path: Path) -> None:
    np.ones(3, np.float32).tofile(tmp_path / "w.bin")
    error = _refused(_with_external_weight(tmp_path, "w.bin"), "GO-3004")
    assert "is truncated: the tensor needs 16 bytes from offset 0, the file has 12" in error.message


def test_external_data_of_a_model_in_memory(tmp_path: Path) -> None:
    model = onnx.load(str(_with_external_weight(tmp_path, "w.bin")), load_external_data=False)
    _refused(model, "GO-3004")
    np.ones(4, np.float32).tofile(tmp_path / "w.bin")
    assert len(import_onnx(model, base_dir=tmp_path).constants) == 1


def test_all_unsupported_operators_are_listed_at_once() -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="first", domain="acme"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="second", domain="acme"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Grumble", ["c"], ["y"], name="third", domain="acme"),
    ]
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "g", [info], [helper.make_tensor_value_info("y", 1, ["N", 4])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    error = _refused(helper.make_model(graph, opset_imports=opsets, ir_version=8), "GO-3005")
    assert "3 node(s) of 2 operator(s) are not supported" in error.message
    assert "2 × acme.Frobnicate (opset 1): first, second" in error.message
    assert "1 × acme.Grumble (opset 1): third" in error.message


def test_unsupported_operators_inside_branches_are_found() -> None:
    branch = """
        agraph (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = g1 () => (float[N] a) { a = acme.Hidden (x) },
                else_branch = g2 () => (float[N] b) { b = Relu (x) }
            >
        }"""
    header = '<ir_version: 8, opset_import: ["": 17, "acme": 1]>\n'
    model = onnx.parser.parse_model(header + branch)
    assert "acme.Hidden" in _refused(model, "GO-3005").message


def test_an_error_names_the_node_the_opset_and_the_operands() -> None:
    model = _model("g (float[2, 3] x, float[4, 5] y) => (float[2, 5] z) { z = MatMul(x, y) }")
    model.graph.node[0].name = "product"
    error = _refused(model, "GO-3006")
    assert error.node == "product"
    assert "MatMul (opset 17) cannot be evaluated on (float32[2, 3], float32[4, 5])" in error.message


def test_a_shape_that_comes_from_data_is_refused_with_the_remedy() -> None:
    model = _model("g (float[6] x, int64[2] s) => (float[a, b] y) { y = Reshape(x, s) }")
    assert "constants={'s': array}" in str(_refused(model, "GO-3006"))
    program = import_onnx(model, constants={"s": np.array([2, 3])})
    assert program.signature.outputs[0].shape == (2, 3)
    assert [spec.name for spec in program.signature.inputs] == ["x"]


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no input 'X1'") as error:
        import_onnx(_linear(), constants={"X1": np.zeros(4)})
    assert error.value.hint is not None
    with pytest.raises(UsageError, match="no dynamic dimension 'batch'") as error:
        import_onnx(_linear(), dims={"batch": 1})
    assert error.value.hint == "dimensions: N"


def test_string_inputs_are_refused() -> None:
    model = _model("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    assert "element type STRING" in _refused(model, "GO-3006").message


def test_initialisers_of_unknown_types_are_refused() -> None:
    model = _linear()
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "text"))
    assert "tensor 'text' has element type STRING" in _refused(model, "GO-3006").message
