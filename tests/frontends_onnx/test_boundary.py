"""Inputs and outputs that are not plain tensors: sequences, optionals, types of 4 bits."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from graphopt.errors import InputError, UsageError
from graphopt.frontends.onnx import import_onnx


def _model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _tensor(
    name: str, kind: int = TensorProto.FLOAT, shape: tuple[object, ...] = ("N", 4)
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _sequence(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)


def test_a_sequence_output_becomes_one_output_an_element() -> None:
    split = helper.make_node("SplitToSequence", ["x"], ["parts"], axis=1)
    program = import_onnx(_model([split], [_tensor("x")], [_sequence("parts")])).check()
    assert [o.name for o in program.signature.outputs] == [f"parts.{i}" for i in range(4)]
    assert "output 'parts' is a sequence; its elements are 'parts.0'" in program.notes[0]
    x = torch.arange(8.0).reshape(2, 4)
    assert [r.tolist() for r in program(x)] == [x[:, i : i + 1].tolist() for i in range(4)]


def test_a_sequence_input_needs_the_shapes_of_its_elements() -> None:
    join = helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0)
    model = _model([join], [_sequence("parts")], [_tensor("y", shape=("M", 4))])
    with pytest.raises(InputError, match="is a sequence, whose length has to be known") as caught:
        import_onnx(model)
    assert caught.value.hint is not None and "shapes={'parts'" in caught.value.hint
    program = import_onnx(model, shapes={"parts": [["n", 4], [3, 4]]}).check()
    assert [(i.name, i.shape) for i in program.signature.inputs] == [
        ("parts.0", ("n", 4)),
        ("parts.1", (3, 4)),
    ]
    assert program(torch.zeros(5, 4), torch.ones(3, 4))[0].sum() == 12
    with pytest.raises(UsageError, match="a list of shapes"):
        import_onnx(model, shapes={"parts": [3, 4]})


def test_an_optional_input_is_given_unless_it_is_said_not_to_be() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [4]))
    has = helper.make_node("OptionalHasElement", ["x"], ["y"])
    model = _model([has], [helper.make_value_info("x", kind)], [_tensor("y", TensorProto.BOOL, ())])
    program = import_onnx(model)
    assert "input 'x' is optional in the file; the program always takes it" in program.notes
    assert program(torch.zeros(4))[0].item() is True
    assert import_onnx(model, constants={"x": None})()[0].item() is False


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("INT4", -8, 7), ("UINT4", 0, 15), ("INT2", -2, 1), ("UINT2", 0, 3)]
)
def test_quantised_4_bit_values_saturate_inside_a_graph(kind: str, low: int, high: int) -> None:
    element = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], output_dtype=element),
        helper.make_node("Transpose", ["q"], ["t"]),
        helper.make_node("DequantizeLinear", ["t", "scale"], ["y"]),
    ]
    model = _model(nodes, [_tensor("x")], [_tensor("y", shape=(4, "N"))])
    model.opset_import[0].version = 25
    model.ir_version = 13
    model.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]))
    program = import_onnx(model).check()
    x = torch.tensor([[-100.0, -0.75, 0.25, 100.0]])
    want = torch.clamp(torch.round(x / 0.5), low, high) * 0.5
    assert torch.equal(program(x)[0], want.t())
    assert not program.notes


def test_a_4_bit_type_passes_through_what_moves_elements() -> None:
    """CastLike has to wrap at 4 bits, though int8 carries its model."""
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.INT4),
        helper.make_node("Reshape", ["narrow", "flat"], ["moved"]),
        helper.make_node("CastLike", ["z", "moved"], ["q"]),
    ]
    inputs = [_tensor("x"), _tensor("z", TensorProto.INT32, (3,))]
    model = _model(nodes, inputs, [_tensor("q", TensorProto.INT4, (3,))])
    model.graph.initializer.append(helper.make_tensor("flat", TensorProto.INT64, [1], [-1]))
    program = import_onnx(model)
    assert program(torch.zeros(1, 4), torch.tensor([9, -9, 7], dtype=torch.int32))[0].tolist() == [-7, 7, 7]
    assert any("output 'q' has the type INT4: it is int8, -8 to 7" in n for n in program.notes)


def test_weights_of_4_bits_are_unpacked() -> None:
    weight = helper.make_tensor("w", TensorProto.INT4, [1, 3], [-8, 7, 3])
    node = helper.make_node("DequantizeLinear", ["w", "scale"], ["d"])
    add = helper.make_node("Add", ["x", "d"], ["y"])
    model = _model([node, add], [_tensor("x", shape=("N", 3))], [_tensor("y", shape=("N", 3))])
    model.graph.initializer.extend([weight, helper.make_tensor("scale", TensorProto.FLOAT, [], [2.0])])
    assert import_onnx(model)(torch.zeros(1, 3))[0].tolist() == [[-16.0, 14.0, 6.0]]


def test_bits_of_a_4_bit_type_are_not_read() -> None:
    node = helper.make_node("BitCast", ["x"], ["y"], to=TensorProto.UINT4)
    model = _model([node], [_tensor("x", TensorProto.INT4)], [_tensor("y", TensorProto.UINT4)])
    model.opset_import[0].version = 26
    model.ir_version = 13
    with pytest.raises(InputError, match="only carries its values"):
        import_onnx(model)
