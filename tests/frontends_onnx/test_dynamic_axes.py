"""Dynamic axes: names, restrictions that the model demands, and shape arithmetic that stays symbolic."""

import onnx
import pytest
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.ir.program import Program
from graphopt.ir.signature import DimRange
from graphopt.verification import OnnxRuntimeRunner, verify


def _model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def _agrees(program: Program, model: onnx.ModelProto) -> None:
    verify(program, OnnxRuntimeRunner(model.SerializeToString())).raise_if_failed()


_FLATTEN = """g (float[batch, 3, height, width] x) => (float[batch, n] y)
<int64[1] minus_one = {-1}, int64[1] zero = {0}> {
    shape = Shape(x)
    rows = Gather(shape, zero)
    target = Concat <axis = 0> (rows, minus_one)
    y = Reshape(x, target)
}"""


def test_names_are_kept_and_shape_arithmetic_leaves_no_tensors() -> None:
    model = _model(_FLATTEN)
    program = import_onnx(model)
    assert program.signature.inputs[0].shape == ("batch", 3, "height", "width")
    assert [str(n.target) for n in program.operator_nodes()] == ["aten.reshape.default"]
    assert not program.notes
    _agrees(program, model)


@pytest.mark.parametrize("param", ["?", "-1", "p2o.DynamicDimension.0"])
def test_odd_names_become_readable(param: str) -> None:
    model = _model("g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = param
    assert import_onnx(model).signature.inputs[0].shape == ("x_0", 3)


def test_a_wildcard_that_is_used_twice_is_two_dimensions() -> None:
    model = _model("g (float[A, B] x) => (float[A, B] y) { y = Relu(x) }")
    for axis in range(2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "?"
    assert import_onnx(model).signature.inputs[0].shape == ("x_0", "x_1")


def test_one_name_on_two_inputs_is_one_dimension() -> None:
    model = _model(
        "g (float[batch, 3] a, float[batch, 5] b) => (float[batch, 3] y, float[batch, 5] z) "
        "{ y = Relu(a)\n z = Neg(b) }"
    )
    program = import_onnx(model)
    assert set(program.signature.dims) == {"batch"}
    with pytest.raises(InputError, match="elsewhere batch = 2"):
        program(torch.zeros(2, 3), torch.zeros(4, 5))


_PYRAMID = """g (float[1, 2, height, 6] x, float[2, 2, 3, 1] w) => (float[1, 2, h, 6] y) {
    small = Conv <strides = [2, 1], pads = [1, 0, 1, 0]> (x, w)
    scales = Constant <value = float[4] {1, 1, 2, 1}> ()
    large = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
        (small, , scales)
    y = Add(large, x)
}"""


def test_a_size_that_must_be_a_multiple_is_restricted_and_noted() -> None:
    model = _model(_PYRAMID)
    program = import_onnx(model)
    assert program.signature.inputs[0].shape == (1, 2, "height", 6)
    assert program.signature.outputs[0].shape == (1, 2, "height", 6)
    assert program.signature.dims["height"] == DimRange(2, None, 2)
    assert len(program.notes) == 1 and "'height' must be a multiple of 2" in program.notes[0]
    _agrees(program, model)
    with pytest.raises(InputError, match="multiple of 2"):
        program(torch.zeros(1, 2, 7, 6), torch.zeros(2, 2, 3, 1))


_SQUEEZE = """g (float[N, rows] x) => (float[N] y) <int64[1] axis = {1}> { y = Squeeze(x, axis) }"""


def test_a_size_that_the_model_fixes_becomes_static_and_is_noted() -> None:
    program = import_onnx(_model(_SQUEEZE))
    assert program.signature.inputs[0].shape == ("N", 1)
    assert any("'rows' is always 1" in note for note in program.notes)


def test_a_range_that_the_user_gave_is_not_narrowed_silently() -> None:
    with pytest.raises(InputError, match="'rows' cannot vary"):
        import_onnx(_model(_SQUEEZE), dims={"rows": (1, 8)})


def test_the_user_can_bind_and_restrict_dimensions() -> None:
    dims = {"batch": 2, "height": (8, 64), "width": DimRange(8, 64, multiple_of=8)}
    program = import_onnx(_model(_FLATTEN), dims=dims)
    assert program.signature.inputs[0].shape == (2, 3, "height", "width")
    assert program.signature.dims == {"height": DimRange(8, 64), "width": DimRange(8, 64, 8)}


_CACHE = """g (float[B, past, 4] cache, float[B, new, 4] x, float[B, total, 4] mask) => (float[B, t, 4] y) {
    all = Concat <axis = 1> (cache, x)
    y = Add(all, mask)
}"""


def test_sizes_that_must_add_up_are_found() -> None:
    program = import_onnx(_model(_CACHE))
    total = program.signature.inputs[2].shape[1]
    assert isinstance(total, str)
    results = program(torch.ones(2, 3, 4), torch.ones(2, 5, 4), torch.ones(2, 8, 4))
    assert results[0].shape == (2, 8, 4)


def test_a_condition_on_static_sizes_folds() -> None:
    text = """agraph (float[N, 3] x) => (float[N, 3] y) {
        shape = Shape(x)
        one = Constant <value = int64 {1}> ()
        three = Constant <value = int64 {3}> ()
        columns = Gather(shape, one)
        same = Equal(columns, three)
        y = If (same) <
            then_branch = g1 () => (float[N, 3] a) { a = Relu(x) },
            else_branch = g2 () => (float[N, 3] b) { b = Neg(x) }
        >
    }"""
    model = _model(text)
    program = import_onnx(model)
    assert [str(n.target) for n in program.operator_nodes()] == ["aten.relu.default"]
    _agrees(program, model)


def test_flatten_at_a_later_axis_keeps_the_sizes_in_front_dynamic() -> None:
    model = _model("g (float[batch, rows, 3, 2] x) => (float[n, 6] y) { y = Flatten <axis = 2> (x) }")
    program = import_onnx(model)
    assert program.signature.inputs[0].shape == ("batch", "rows", 3, 2)
    _agrees(program, model)


_MASK = """g (bool[batch, rows] visible) => (float[batch, rows] y)
<float zero = {0}, float hidden = {-10000}> { y = Where(visible, zero, hidden) }"""


def test_a_choice_between_two_numbers_has_the_type_of_the_file() -> None:
    """As TorchScript's exporter writes masks of attention."""
    model = _model(_MASK)
    program = import_onnx(model)
    assert program.signature.outputs[0].dtype == torch.float32
    _agrees(program, model)


_TILES = """g (float[batch, height] x) => (float[batch, n] y)
<int64[1] minus_one = {-1}, int64[1] two = {2}> {
    rows = Shape <start = 0, end = 1> (x)
    columns = Shape <start = 1, end = 2> (x)
    half = Div(columns, two)
    target = Concat <axis = 0> (rows, half, two)
    tiles = Reshape(x, target)
    y = ReduceSum <keepdims = 0> (tiles, minus_one)
}"""


def test_only_the_dimensions_that_matter_must_be_multiples() -> None:
    model = _model(_TILES)
    program = import_onnx(model)
    assert program.signature.dims == {"batch": DimRange(1, None), "height": DimRange(2, None, 2)}
    _agrees(program, model)
